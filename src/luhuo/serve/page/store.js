/** Conversations in the browser's IndexedDB; in memory alone where the browser forbids it. Nothing leaves the machine. */

const NAME = "luhuo-chat";
const VERSION = 1;
const BOTH = ["summaries", "conversations"];

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = transaction.onerror = () => reject(transaction.error ?? new DOMException("aborted", "AbortError"));
  });
}

export function summary(conversation) {
  return {id: conversation.id, title: conversation.title, updated: conversation.updated};
}

/** `Store.open()` never fails: without a database `lasting` is false and the page says so. */
export class Store {
  static async open() {
    const store = new Store();
    store.lasting = false;
    store.memory = new Map();
    store.listeners = new Set();
    try {
      const request = indexedDB.open(NAME, VERSION);
      request.onupgradeneeded = () => {
        for (const name of BOTH) request.result.createObjectStore(name, {keyPath: "id"});
      };
      store.database = await settled(request);
      store.database.onversionchange = () => store.database.close();
      store.lasting = true;
    } catch (error) {
      console.warn("no lasting storage:", error.name);
    }
    store.channel = new BroadcastChannel(NAME);
    store.channel.onmessage = (event) => store.listeners.forEach((run) => run(event.data));
    return store;
  }

  /** `run(id)` when another window changed a conversation. */
  watch(run) {
    this.listeners.add(run);
  }

  /** {id, title, updated} of all conversations, the newest first. */
  async list() {
    const all = this.lasting ? await settled(this.database.transaction("summaries").objectStore("summaries").getAll()) : [...this.memory.values()].map(summary);
    return all.sort((a, b) => b.updated - a.updated);
  }

  async get(id) {
    if (!this.lasting) return this.memory.get(id);
    return settled(this.database.transaction("conversations").objectStore("conversations").get(id));
  }

  /** Save a conversation. Throws the browser's `QuotaExceededError` when there is no room. */
  async put(conversation) {
    if (!this.lasting) {
      this.memory.set(conversation.id, conversation);
      return;
    }
    const transaction = this.database.transaction(BOTH, "readwrite");
    transaction.objectStore("summaries").put(summary(conversation));
    transaction.objectStore("conversations").put(conversation);
    await finished(transaction);
    this.channel.postMessage(conversation.id);
  }

  async remove(id) {
    this.memory.delete(id);
    if (!this.lasting) return;
    const transaction = this.database.transaction(BOTH, "readwrite");
    for (const name of BOTH) transaction.objectStore(name).delete(id);
    await finished(transaction);
    this.channel.postMessage(id);
  }

  async clear() {
    this.memory.clear();
    if (!this.lasting) return;
    const transaction = this.database.transaction(BOTH, "readwrite");
    for (const name of BOTH) transaction.objectStore(name).clear();
    await finished(transaction);
    this.channel.postMessage(null);
  }

  /** Go through all conversations one at a time, so that a search holds one in memory, not all. */
  async *each() {
    for (const {id} of await this.list()) {
      const conversation = await this.get(id);
      if (conversation) yield conversation;
    }
  }
}

/** Whether an error says that the browser's room for this site is used up. */
export function isFull(error) {
  return error?.name === "QuotaExceededError";
}
