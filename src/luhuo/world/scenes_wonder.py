"""Event schemas of discoveries, animals, journeys and small wonders. The notation is that of `scenes_home`."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SCENES = """
While digging {spot}, {a} hit something hard with {tool.a}. // {a}{spot}挖土时，{tool}碰到了一样硬东西。
It was a wooden box, and in it lay {treasure.a}, hundreds of years old. // 那是一个木箱，里面有{treasure.a}，看样子有几百年了。
The museum offered money; {b} offered [advice|to buy it]; the neighbours offered opinions. // 博物馆愿意出钱，{b}愿意[出主意|买下来]，邻居们都来发表意见。
{a} put it in the window, where the children [can see it|press their noses against the glass]. // {a}把它摆在窗口，[孩子们都能看见|孩子们把鼻子贴在玻璃上看]。

Every morning {wildanimal.a} came to {a.his} window and [knocked three times|waited for crumbs]. // 每天早上，都有{wildanimal.a}来到{a}的窗前，[敲三下|等着吃碎屑]。
{a} gave it {fruit.a}, and it brought [buttons|{treasure.a}|a shiny nail] in return. // {a}给它{fruit.a}，它就叼来[纽扣|{treasure.a}|一枚亮晶晶的钉子]作回礼。
One day it did not come, and {a} went from door to door, asking. // 有一天它没来，{a}挨家挨户去问。
{b} led {a.him} to {tree.a}: up there it sat, with four young ones, [too busy to knock|hungry and proud]. // {b}领{a.him}到{tree.a}下：它就在上面，带着四只小的，[忙得顾不上敲窗|又饿又得意]。

In a shop in {place}, {a} bought {machine.a} that [could not be opened|ran backwards|hummed at night]. // 在{place}的一家店里，{a}买了{machine.a}，它[怎么也打不开|总是倒着走|夜里会嗡嗡响]。
{b} took out every screw and put it together again, twice. // {b}把螺丝一颗颗拧下来又装回去，折腾了两遍。
Nothing was wrong with it, except that it [stopped whenever somebody told a lie|only worked when it rained]. // 它什么毛病也没有，只是[有人一说谎就停|只在下雨天才转]。
?They used it [with care|at every party] from then on. // 从此他们[用得很小心|每次聚会都把它搬出来]。

The ferryman would not cross {town.river} because {weather}. // {town.river}上的船夫不肯开船，因为{weather}。
{a} had to reach {place} before night with {item.a} for {b}. // {a}必须在天黑前把{item.a}送到{place}交给{b}。
{a.he} tied {a.his} clothes in a bundle, left {a.his} boots with a boy, and [waded|swam]. // {a.he}把衣服捆在头上，靴子交给一个男孩，[蹚水|游水]过了河。
"You are wet," {b} <said>, and that was all the thanks there was, [then|until the {dish} came]. // {b}<说>：“你湿透了。”[当时|端上{dish}以前]，这就是全部的感谢。

A circus came to {town} with {wildanimal.a} that could [count to five|play {instrument.a}]. // 马戏团来到{town}，带来{wildanimal.a}，会[数到五|演奏{instrument}]。
{a} watched it three times and saw the trick: the trainer [lifted a finger|coughed]. // {a}看了三遍，看出了门道：驯兽师[抬了一下手指|咳了一声]。
{b} wanted to tell everybody, but {a} [shook {a.his} head|held {b.his} sleeve]. // {b}想说出去，{a}却[摇了摇头|拉住了{b}的袖子]。
After the show they brought the animal {vegetable.a}, and it counted: one. // 散场以后，他们给它带了{vegetable.a}，它数道：一。

On the night of the comet everyone stood {spot} and looked up. // 彗星来的那天夜里，人人都{spot}仰着头看。
{a} had brought {furniture.a} and {drink.a}, {b} a telescope made of {craft}. // {a}带了{furniture.a}和{drink.a}，{b}带了自己用{craft}做的望远镜。
For an hour there was nothing but clouds, and people [went home|began to sing]. // 一个钟头过去，只有云，人们[纷纷回家|唱起歌来]。
Then the sky opened, and {a} forgot {a.his} {snack} in {a.his} hand. // 忽然云开了，{a}连手里的{snack}都忘了。

{a} found a bottle in {town.river} with a message: "Whoever reads this, please {act}." // {a}在{town.river}里捡到一个瓶子，里面写着：“谁读到这封信，就请他去{act}。”
{a.he} <think>, why not, and did it that very afternoon. // {a.he}想，有何不可，当天下午就照做了。
{b} saw it and [wanted to know why|joined in], and so did two strangers. // {b}看见了，[问这是为什么|也跟着做]，还有两个路人也来了。
?The next day {a} threw in a bottle of {a.his} own. // 第二天，{a}自己也往河里放了一个瓶子。

During the flood {a} and {b} sat on a roof with {animal.a} and {kitchen.a}. // 发大水时，{a}和{b}坐在屋顶上，身边有{animal.a}和{kitchen.a}。
They caught what floated by: {toy.a}, {furniture.a}, half of {fruit.a}. // 漂过来什么，他们就捞什么：{toy.a}、{furniture.a}、半个{fruit}。
In the evening a boat came, but there was room for only one. // 傍晚来了一条船，可是只能坐一个人。
"Take the {animal}," both said at the same time. // “先带上{animal}吧，”两人同时说。

The clock on the tower of {town} stopped at {minute} minutes past ten. // {town}钟楼上的钟停在十点{minute}分。
Trains were missed, soup burned, and {a} [came to school on a Sunday|was never late again]. // 有人误了火车，有人烧糊了汤，{a}[星期天跑去上学|再也不算迟到了]。
{b} climbed up with {tool.a} and found a nest between the wheels. // {b}带着{tool.a}爬上去，发现齿轮中间有个鸟窝。
So the town lived without time until {month}, and [liked it|some would like it back]. // 于是全镇没钟没点地过到{month}，[倒也挺好|至今还有人怀念]。

{a} planted a seed that {b} had brought from {place}, and [nothing happened|watered it every day]. // {a}种下{b}从{place}带回的一粒种子，[一直没有动静|天天浇水]。
After {price} days there was a leaf, then a stalk as high as {furniture.a}. // 过了{price}天，冒出一片叶子，接着长出一根跟{furniture}一样高的茎。
It flowered only one night, smelled of {drinktwo}, and [closed before breakfast|brought the whole street to the window]. // 它只开了一夜的花，闻起来像{drinktwo}，[早饭前就谢了|引得整条街的人都到窗前来看]。
?"Next year again," {b} <said>, and wrote the date on the wall. // {b}<说>：“明年再来。”说着把日子记在墙上。

The dog of {a} could [find anything|open every door], and one day it came home with {clothing.a}. // {a}的狗[什么都找得到|什么门都打得开]，有一天叼回来{clothing.a}。
<nobody> in the street had lost one. // 街上谁也没丢过。
In the pocket {a} found a ticket to {place} and {b.his} name. // {a}在口袋里找到一张去{place}的票，还有{b}的名字。
{a} [ran to the station|took a bicycle], and {b}, who had been searching {spot}, [nearly wept|kissed the dog]. // {a}[跑到车站|骑上自行车赶去]，{b}正{spot}到处找，[差点哭出来|抱着狗亲了一下]。

There is a house {spot} where, they say, {instrument.a} plays at night by itself. // 听说{spot}有座房子，夜里会有{instrument.a}自己响。
{a} and {b} went there with {tool.a} and {snack.a}, [for courage|in case it took long]. // {a}和{b}带着{tool.a}和{snack.a}去了，[好壮壮胆|怕要等很久]。
It did play: {pet.a} was walking over it, up and down, [looking for mice|quite at home]. // 它真的响了：{pet.a}在上面走来走去，[找老鼠|像在自己家一样]。
They left the {snack} there and kept the secret, because a town needs [its ghosts|a good story]. // 他们把{snack}留下，守住了秘密，因为一个镇子总得有[几个鬼|个好故事]。

{a} wanted to know how deep {town.river} was, and tied {tool.a} to a rope. // {a}想知道{town.river}有多深，就把{tool.a}系在绳子上。
The rope was too short, so {b} added {clothing.a}, and {c} a belt. // 绳子太短，{b}接上{clothing.a}，{c}又接上腰带。
At {price} feet something pulled back. // 放到{price}尺深，下面有什么东西拽了一下。
?They looked at one another and let go. // 三个人你看我，我看你，松了手。
Since then the map of {town} says only: "deep". // 从此{town}的地图上只写着一个字：“深”。

Snow had closed the pass, and {a}, {b} and a stranger shared one hut and {dish.a}. // 大雪封了山口，{a}、{b}和一个陌生人挤在一间小屋里，分吃{dish.a}。
To pass the time each told of the worst {machine} and the best {fruit} in the world. // 为了打发时间，每人都讲世上最糟的{machine}和最好的{fruit}。
The stranger spoke last, of {place} and of a promise, and [the fire went out unnoticed|<nobody> slept]. // 陌生人最后讲，讲到{place}，讲到一个诺言，[火灭了都没人发觉|大家都没睡]。
In the morning there were only two of them, and {treasure.a} on the third blanket. // 早上只剩下两个人，第三条毯子上放着{treasure.a}。
"""
