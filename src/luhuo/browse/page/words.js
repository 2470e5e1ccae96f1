/** Every text of the browsing page, English and Chinese side by side. {name} is filled in. */

import {language} from "/chat/preferences.js";

const WORDS = {
  title: ["Corpus", "语料"], other: ["中文", "English"], offline: ["The server does not answer.", "服务器没有响应。"],
  search: ["Search in texts", "搜索文本"], regex: ["Regular expression", "正则表达式"], case: ["Match case", "区分大小写"], go: ["Search", "搜索"], reset: ["Forget all filters", "清除筛选"],
  state: ["State", "状态"], reason: ["Reason", "原因"], source: ["Source", "来源"], lang: ["Language", "语言"], any: ["any", "不限"],
  kept: ["kept", "保留"], dropped: ["dropped", "丢弃"], changed: ["kept, with changes", "保留且有改动"], undecided: ["not decided", "未判定"],
  id: ["Id begins with", "编号开头"], cluster: ["Cluster of duplicates", "重复簇"], signal: ["Signal", "信号"], least: ["at least", "不小于"], most: ["at most", "不大于"], add: ["Add", "添加"], remove: ["Remove {name}", "移除 {name}"],
  searching: ["Searching: {looked} of {parts} parts, {found} found", "正在搜索：{looked}/{parts} 部分，已找到 {found} 篇"], end: ["{found} documents; everything was searched", "{found} 篇；已搜索全部"], soFar: ["{found} documents in {looked} of {parts} parts", "前 {looked}/{parts} 部分中找到 {found} 篇"],
  more: ["More", "更多"], stop: ["Stop", "停止"], none: ["Nothing fits.", "没有符合条件的文档。"], chars: ["{n} characters", "{n} 字符"],
  back: ["Back to the list", "返回列表"], previous: ["Previous", "上一篇"], next: ["Next", "下一篇"], place: ["{unit}, {n} of {lines}", "{unit}，第 {n}/{lines} 篇"],
  about: ["About", "概况"], reasons: ["Why it was dropped", "丢弃原因"], keptInstead: ["Kept instead", "保留的是"], compare: ["Compare with what is kept", "与保留的对照"], noneKept: ["Nothing of this cluster is kept.", "这一簇没有保留任何文档。"], alike: ["All of its cluster", "同簇全部文档"], signals: ["Signals", "信号"], value: ["Value", "值"], limits: ["Limits", "阈值"],
  flag: ["flag only", "仅标记"], broken: ["outside", "超出"], before: ["As it was read", "读入时"], after: ["As it was written", "写出后"], unchanged: ["Written as it was read.", "原样写出。"], notWritten: ["Not written: it was dropped.", "未写出：已被丢弃。"], cutOff: ["Only the beginning is shown.", "仅显示开头部分。"],
  hide: ["Hide personal data", "隐藏个人信息"], cut: ["cut out: {kind}", "删去：{kind}"], personal: ["personal data: {kind}", "个人信息：{kind}"], replaced: ["put in place of personal data: {kind}", "替换后的个人信息：{kind}"],
  paragraph: ["repeated paragraph", "重复段落"], line: ["repeated line", "重复行"], substring: ["repeated span", "重复片段"],
};

/** The text of a key, with {name} filled in; an unknown key is its own text. */
export function w(key, values = {}) {
  const found = WORDS[key];
  return found ? found[language() === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole)) : key;
}
