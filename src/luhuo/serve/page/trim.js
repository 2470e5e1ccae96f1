/** Make a history fit the model's context by leaving out its oldest turns; the page says how many. */

const TEMPLATE_TOKENS = 16;
const TEMPLATE_TOOLS = 512;

/** Tokens that stay free for the answer. */
export function reserve(context, maxTokens) {
  return Math.min(maxTokens || 1024, Math.floor(context / 2));
}

/** No byte-level tokenizer makes more tokens than bytes, so a short history needs no question to the server. */
function certainlyFits(messages, tools, room) {
  const encoder = new TextEncoder();
  let bytes = tools ? encoder.encode(JSON.stringify(tools, null, 4)).length + TEMPLATE_TOOLS : 0;
  for (const message of messages) bytes += encoder.encode(JSON.stringify(message)).length + TEMPLATE_TOKENS;
  return bytes <= room;
}

/**
 * {messages, dropped, count}: the messages that fit into `context` with room for an answer, how many were left out and,
 * where the server was asked, their tokens. The system prompt and the last user turn always stay; a cut is made only
 * before a user's message, so that a tool's result never stands without its call. `count(messages)` asks the server.
 */
export async function trim(messages, tools, context, maxTokens, count) {
  if (!context) return {messages, dropped: 0, count: null};
  const room = context - reserve(context, maxTokens);
  if (certainlyFits(messages, tools, room)) return {messages, dropped: 0, count: null};
  const opening = messages[0]?.role === "system" ? 1 : 0;
  const starts = messages.flatMap((message, place) => (message.role === "user" ? [place] : []));
  const without = (cut) => [...messages.slice(0, opening), ...messages.slice(starts[cut])];
  const whole = await count(messages);
  if (!(whole > room) || starts.length < 2) return {messages, dropped: 0, count: whole};
  let [low, high] = [1, starts.length - 1];
  let fitting = null;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const kept = without(middle);
    const tokens = await count(kept);
    if (tokens <= room) {
      fitting = {messages: kept, dropped: messages.length - kept.length, count: tokens};
      high = middle - 1;
    } else low = middle + 1;
  }
  if (fitting) return fitting;
  // Not even the last turn leaves the usual room: it is sent alone, and the server says if it is too long by itself.
  const last = without(starts.length - 1);
  return {messages: last, dropped: messages.length - last.length, count: null};
}
