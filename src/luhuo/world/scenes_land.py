"""Event schemas of fields, rivers, forests and journeys. The notation is that of `scenes_home`."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SCENES = """
{a} went into the forest for {flower.s} and firewood, and [lost the way|stayed too long]. // {a}到树林里采{flower}、拾柴火，[迷了路|待得太久了]。
When it grew dark, every {tree} looked like the next. // 天黑下来，{tree}一棵棵看上去都一样。
{a.he} hung {clothing.a} on a branch and whistled [the song of {town.festival}|every tune {a.he} knew]. // {a.he}把{clothing.a}挂在树枝上，吹起[{town.festival}的曲子|会吹的每一支曲子]。
?Only {wildanimal.a} answered. // 应声的只有{wildanimal.a}。
At last a light came between the trunks: {b}, with {pet.a} and a lantern. // 终于，树干间透出一点光：是{b}，带着{pet.a}，提着灯。

{a.his} {farmanimal} had run off {spot}, and the whole village helped to look for it. // {a}家的{farmanimal}跑了，全村都帮着找。
Some searched the hill with {tool.s}, others [called from boats|asked in {place}]. // 有的拿着{tool}上山，有的[在船上喊|到{place}去打听]。
{b} simply sat down, put {vegetable.a} on the grass, and waited. // {b}却只是坐下，在草地上放了{vegetable.a}，等着。
Before sunset the animal stood there [and chewed|as if nothing had happened]. // 太阳还没落山，那牲口就[站在那儿嚼起来了|没事似的回来了]。

The ice on {town.river} looked thick enough, so {a} stepped on it. // {town.river}上的冰看着够厚，{a}就踩了上去。
In the middle there was a crack, [loud as a drum|long and blue]. // 走到河心，咔的一声，[响得像打鼓|裂开一道蓝缝]。
"Lie down flat!" shouted {b} and pushed {tool.a} across the ice. // “趴下！”{b}一边喊，一边把{tool.a}从冰面上推过去。
{a} got out wet to the {clothing}, and drank three cups of {drink}. // {a}爬上来时{clothing}都湿透了，喝了三杯{drink}。

That year the {fruit.s} were small, because the spring had been dry. // 那年{fruit}个头很小，因为春天太旱。
{a} wanted to cut down the trees; {b} asked for one more year. // {a}想把树砍了，{b}求{a.him}再等一年。
They carried water from {town.river}, [bucket by bucket|every evening after work]. // 他们从{town.river}挑水，[一桶又一桶|每天收工后都去]。
The next autumn the branches [broke under the weight|had to be propped up with poles]. // 第二年秋天，枝条[都被压断了|得用竿子撑着]。

{a} and {b} set out for {place} with {vehicle.a} and {dish.a} in a pot. // {a}和{b}带着{vehicle.a}和一锅{dish}，动身去{place}。
Halfway there a wheel came off, beside a field of {flower.s}. // 走到半路，在一片{flower}地边，轮子掉了。
?"At least we shall not go hungry," {b} <said>. // {b}<说>：“至少饿不着。”
A shepherd helped them with {material} and {tool.a}, and wanted only {snack.a} for it. // 一个牧羊人用{material}和{tool.a}帮他们修好了，只要了{snack.a}作谢礼。
They reached the town [at dawn|when the bells rang], tired and {good}. // 他们[天亮时|钟响的时候]到了镇上，又累又{good}。

Under {tree.a} on {town.hill} {a} found {wildanimal.a} with a broken leg. // 在{town.hill}的{tree.a}下，{a}发现{wildanimal.a}，一条腿断了。
{a.he} bound it with {clothing.a} and carried it down [inside {a.his} coat|in {vessel.a}]. // {a.he}用{clothing.a}给它包好，[揣在怀里|放在{vessel.a}里]带下山。
{b} knew what to do: some warm water, rest, and no noise. // {b}知道该怎么办：喂点温水，静养，不吵它。
In {month} they opened the door, and it went without looking back. // 到了{month}，他们打开门，它头也不回地走了。
?Every spring since then there has been {flower.a} on the doorstep. // 从那以后，每年春天门口都会有{flower.a}。
"""
