"""Looking through a corpus: search and filters over all documents, and a page of each with everything known of it."""
