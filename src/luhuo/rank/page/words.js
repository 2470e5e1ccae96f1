/** Every text of the ranking page, English and Chinese side by side. {name} is filled in. */

import {language} from "/chat/preferences.js";

const WORDS = {
  title: ["Luhuo ranking", "炉火排序"], name: ["Your name", "你的名字"], nameWhy: ["It keeps your judgements together. You can go on under the same name at any time, on any device.", "用来把你的评判归在一起；任何时候、任何设备都可用同一名字继续。"],
  begin: ["Begin", "开始"], as: ["You: {name}", "你：{name}"], change: ["Change your name", "更换名字"],
  back: ["Back", "上一题"], overview: ["Progress", "进度"], keys: ["Keys", "快捷键"], other: ["中文", "English"],
  count: ["{done} of {total}", "{done} / {total}"], user: ["Prompt", "提示"], system: ["System", "系统"], assistant: ["Earlier answer", "此前的回答"], tool: ["Tool", "工具"],
  howPair: ["Which answer is better?", "哪个回答更好？"], howMany: ["Put the answers in order, the best first.", "请把回答从好到差排列。"],
  answer: ["Answer {letter}", "回答 {letter}"], better: ["{letter} is better", "{letter} 更好"], tie: ["Equally good", "一样好"], bothBad: ["Both bad", "都不好"], allBad: ["All bad", "全都不好"],
  skip: ["Skip", "跳过"], save: ["Save order", "保存顺序"], clear: ["Start over", "重排"], place: ["Place {letter} next", "把 {letter} 排在下一位"], unplace: ["Take {letter} back", "取回 {letter}"],
  tieNext: ["Tie with the last", "与上一个并列"], comment: ["Comment (not needed)", "备注（可不填）"], order: ["Your order", "你的排序"], rank: ["Place {n}", "第 {n} 名"],
  dragHint: ["Drag a letter: onto a place for a tie, between two places for a place of its own.", "拖动字母：放到某一名次上为并列，放到两名次之间则自成一名。"], unplaced: ["Not placed", "未排"],
  done: ["There is nothing left to judge. Thank you!", "已全部评完，谢谢！"], saved: ["Saved.", "已保存。"], revising: ["You judged this one before; what you say now takes its place.", "这道题你评过；新的评判会替换原来的。"],
  first: ["This is the first one you judged.", "这是你评的第一道题。"], offline: ["The server does not answer. What you said was not saved; try again.", "服务器没有响应，刚才的评判未保存，请重试。"],
  judged: ["{judged} of {items} items judged by somebody", "{items} 道题中已有人评判 {judged} 道"], person: ["Name", "名字"], judgements: ["Judged", "已评"], bad: ["All bad", "全都不好"], skipped: ["Skipped", "跳过"], seconds: ["Seconds each", "每题秒数"],
  agreement: ["Agreement", "一致性"], everyone: ["Everyone", "全体"], kappa: ["κ (95% interval)", "κ（95% 区间）"], same: ["Same opinion", "意见相同"], pairs: ["Pairs", "对数"], none: ["Nothing is judged by two people yet.", "还没有两人都评过的题。"],
  keyDigit: ["this answer is better; with three or more, the next in order", "该回答更好；三个及以上时为排在下一位"], keyTie: ["equally good", "一样好"], keyTieNext: ["the next one ties with the last placed", "下一个与刚排的并列"], keyBad: ["all are bad", "全都不好"], keySkip: ["skip", "跳过"], keyEnter: ["save the order", "保存顺序"], keyClear: ["start over", "重排"], keyBack: ["the one before", "上一题"],
};

/** The text of a key, with {name} filled in. */
export function w(key, values = {}) {
  return WORDS[key][language() === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
