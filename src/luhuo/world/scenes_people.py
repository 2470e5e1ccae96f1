"""Event schemas between people: friendship, school, illness, work, quarrels. The notation is that of `scenes_home`."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SCENES = """
{a} had a fever and [lay in bed for a week|could not {act}]. // {a}发了烧，[躺了一个星期|没法{act}]。
Every noon {b} left {dish.a} at the door and [went away on tiptoe|drew a face on the window]. // 每天中午，{b}把{dish.a}放在门口，[踮着脚走开|在窗户上画一张笑脸]。
On the last day {a} was standing there with {flower.a}: "[I know your steps|You can stop hiding now]." // 最后一天，{a}拿着{flower.a}站在门里：“[我听得出你的脚步|不用再躲啦]。”

Nobody wanted to sit next to {a}, the new pupil from {place}, who [spoke with an accent|smelled of {material}]. // {a}是从{place}转来的新学生，[说话带口音|身上有股{material}味]，没人愿意跟{a.him}坐。
In the break {a.he} took out {instrument.a} and played, at first [very softly|with closed eyes]. // 课间，{a.he}拿出{instrument.a}，起初[轻轻地|闭着眼]奏了起来。
{b} put down a half-eaten {snack} and moved over. // {b}放下吃了一半的{snack}，挪了过来。
?By the end of the week the whole class could hum the tune. // 不到一个星期，全班都会哼那支曲子了。

{a} lent {b} {item.a}, and {b} gave it back [broken|with a scratch|in two pieces]. // {a}把{item.a}借给{b}，{b}还回来时[坏了|多了一道划痕|断成了两截]。
"It was like that before," {b} <said>, and both knew that this was not true. // {b}<说>：“本来就是这样。”可两人都知道不是。
For a month they [passed each other without a word|took different streets]. // 整整一个月，他们[见面也不说话|各走各的路]。
In {month} a parcel came: {item.the}, mended with [silver wire|great care], and a note with one word: "Sorry." // {month}里来了一个包裹：{item.the}，[用银丝|仔细地]修好了，还有一张字条，上面只有三个字：“对不起。”

The master wanted {tool.a}, and {a} brought [the wrong one|{kitchen.a}|it too late]. // 师傅要{tool.a}，{a}却[拿错了|拿来{kitchen.a}|来晚了]。
"Where is your head?" shouted the master, and <nobody> in the workshop looked up. // “你的脑子呢？”师傅吼道，作坊里谁也不敢抬头。
In the evening {b} showed {a} how the tools hung on the wall, from the smallest to the largest. // 晚上，{b}教{a}认墙上的工具，从最小的到最大的。
?"I cried on my first day," {b} <said>. "Now I teach." // {b}<说>：“我头一天还哭了呢，现在我都当师傅了。”

{a} and {b} raced each other to {town.hill}, and the loser had to {act}. // {a}和{b}比赛跑到{town.hill}，输的人要{act}。
Halfway up {a} [fell over {animal.a}|lost a shoe|got a stitch]. // 跑到半山，{a}[被{animal.a}绊倒了|跑掉了一只鞋|岔了气]。
{b} could have won, but turned round and [held out a hand|sat down too]. // {b}本来能赢，却转过身来，[伸出一只手|也坐了下来]。
They came in together, [arguing|laughing], and did the work as a pair. // 两人一起到了山顶，[边吵边闹|笑成一团]，活儿也一起干了。

{a} could not read, and [hid it from everybody|was ashamed of it]. // {a}不识字，[瞒着所有人|一直觉得丢人]。
When a letter came, {a.he} asked {b} to read it aloud, because of "the bad light". // 来了信，{a.he}就说“光线不好”，请{b}念给自己听。
{b} understood, and from {weekday} on brought {stationery.a} and taught {a.him} [three words a day|by candlelight]. // {b}心里明白，从{weekday}起带着{stationery.a}来，[每天教三个字|点着蜡烛教]。
A year later {a} wrote the answer {a.himself}. // 一年以后，{a}自己写了回信。

An old man whom <nobody> knew died and left {a} {furniture.a}. // 一位没人认识的老人去世了，留给{a}{furniture.a}。
Inside lay {treasure.a}, {stationery.a} and a list of names; the last was {b}. // 里面有{treasure.a}、{stationery.a}，还有一张名单，最后一个名字是{b}。
{a} visited them one after another and asked about {hobby}. // {a}挨个去拜访他们，打听{hobby}的事。
{b} opened the door, saw {treasure.the}, and [began to tell|sat down on the stairs]. // {b}打开门，看见{treasure.the}，[就讲了起来|在台阶上坐了下来]。

{a} told everyone that {a.he} had seen {wildanimal.a} {spot}. // {a}逢人就说，自己{spot}看见了{wildanimal.a}。
<nobody> believed it, and {b} even [made up a song about it|laughed until it hurt]. // <没人>相信，{b}还[编了一首歌取笑|笑得肚子疼]。
Then one night {b} went out for {material} and came back [white as flour|without {b.his} hat]. // 后来有天夜里，{b}出去拿{material}，回来时[脸白得像面粉|帽子都丢了]。
The song was not heard again. // 那首歌再也没人唱了。

The election of the mayor of {town} was between {a} and {b}. // {town}选镇长，候选人是{a}和{b}。
{a} promised a new {town.landmark}, {b} promised nothing and [repaired the pump|swept the square]. // {a}许诺新建{town.landmark}，{b}什么也没许诺，[只去修水泵|只去扫广场]。
?The newspaper printed a drawing of both as {farmanimal.s}. // 报纸把两个人都画成了{farmanimal}。
{b} won by {price} votes, and {a} was the first to bring {snack.a}. // {b}赢了{price}票，{a}第一个送来{snack.a}祝贺。

It was {a.his} last day at work after forty years. // 干了四十年，这是{a}上班的最后一天。
{a.he} oiled {tool.the}, swept the floor, and [hung up the apron|wound the clock once more]. // {a.he}给{tool.the}上了油，扫了地，[把围裙挂好|又给钟上了一次发条]。
Nobody said anything, and {a} was a little {bad}. // 谁也没说什么，{a}有点{bad}。
But {spot} stood {b} and all the others, each with {food.a}, and somebody had borrowed {instrument.a}. // 可是{spot}站着{b}和所有的同事，人人手里都有吃的，还有人借来了{instrument.a}。

{a} copied the homework of {b}, with all the mistakes. // {a}抄了{b}的作业，连错的也照抄。
The teacher laid both notebooks side by side and [said nothing|asked for an explanation]. // 老师把两个本子并排放着，[一句话也不说|问这是怎么回事]。
{b} looked at the ceiling, {a} at {a.his} shoes. // {b}看着天花板，{a}看着自己的鞋。
"Then you will both explain it to the class tomorrow," the teacher decided, and so they had to learn it. // “那明天你们俩一起给全班讲，”老师决定。他们只好真的学会了它。

{a} wanted to thank {b}, but [the words would not come|did not know how]. // {a}想谢谢{b}，[话却说不出口|却不知道怎么说]。
So {a.he} polished {b.his} {tool}, filled the {kitchen} and fed the {animal}, all before sunrise. // 于是天没亮，{a.he}就给{b}擦好了{tool}，装满了{kitchen}，喂好了{animal}。
{b} thought of [ghosts|{c}|the neighbours] and told the story everywhere. // {b}以为是[鬼|{c}|邻居]干的，到处讲这件事。
{a} listened each time and [smiled|said nothing at all]. // 每次{a}都听着，[笑一笑|什么也不说]。

The two families had not spoken since the matter of {farmanimal.the}. // 自从{farmanimal.the}那件事以后，两家人就不说话了。
Only the children, {a} and {b}, met in secret {spot}. // 只有两家的孩子{a}和{b}{spot}偷偷见面。
One day a fence fell down, and both grandfathers came out with {tool.a}. // 有一天篱笆倒了，两位爷爷都拿着{tool.a}出来。
They looked at the fence, at each other, at the children, and [left the gap open|went in for {drink}]. // 他们看看篱笆，看看对方，又看看孩子，[就把缺口留着了|一起进屋喝{drink}去了]。

{a} kept a secret for {b}, and it was [heavy as {furniture.a}|hard to sleep with]. // {a}替{b}守着一个秘密，心里[像压着{furniture.a}|沉得睡不着]。
"Tell me, and I will give you {toy.a}," said {c}. // “告诉我，我就给你{toy.a}，”{c}说。
{a} shook {a.his} head, even when it was [two|three, and {snack.a} as well]. // {a}摇摇头，[加到两个也不说|再添上{snack.a}也不说]。
Later {b} told the whole town without being asked: there was going to be a wedding. // 后来{b}自己告诉了全镇：原来是要办喜事了。
"""
