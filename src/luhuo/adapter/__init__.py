"""Adapters: few trained numbers in or beside a frozen model. One file a method, one interface (`adapter.Adapter`)."""
