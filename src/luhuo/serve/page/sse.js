/** Server-sent events: bytes in any cuts become the `data` of events (WHATWG HTML, section 9.2.6). */

const LARGEST = 16 * 1024 * 1024;

/** The data of each event of a response's body, as text. Stops at `[DONE]`; throws what the reader throws. */
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const {done, value} = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, {stream: true});
      if (rest.length > LARGEST) throw new Error("an event without end");
      // A carriage return at the very end may be the first half of a line break.
      const whole = done ? rest : rest.replace(/\r$/, "");
      const lines = whole.split(/\r\n|\n|\r/);
      rest = done ? "" : lines.pop() + rest.slice(whole.length);
      for (const line of lines) {
        if (line === "" && data.length) {
          const text = data.join("\n");
          data = [];
          if (text === "[DONE]") return;
          yield text;
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // the connection may be gone already; nobody reads it any more
  }
}
