"""Event schemas of streets, shops, schools and festivals. The notation is that of `scenes_home`."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SCENES = """
At the market {a} stopped in front of {item.a} and [could not look away|asked the price]. // 集市上，{a}在{item.a}前停下来，[挪不开眼|问了问价钱]。
The seller wanted {price} coins, [which was far too much|and would not take less]. // 卖主要{price}枚硬币，[实在太贵了|一枚也不肯少]。
{a} turned to go, came back, and offered {fruit.a} and a song instead. // {a}转身要走，又回来，说愿意拿{fruit.a}再加一支歌来换。
?People gathered [round the stall|to listen], and {b} held {a.his} {clothing}. // 人们围拢过来，{b}替{a}拿着{clothing}。
The seller [laughed until the tears came|wiped {stationery.a} clean and nodded]: "[Sing it twice|Done]!" // 卖主[笑出了眼泪|把秤一放，点了点头]：“[唱两遍才行|成交]！”

The teacher asked {a} to {act} before the whole class. // 老师叫{a}当着全班{act}。
{a} stood up, dropped {stationery.a}, and [forgot every word|turned as red as {fruit.a}]. // {a}站起来，碰掉了{stationery.a}，[一个字也想不起来了|脸红得像{fruit.a}]。
From the back row {b} [made a sign|drew {animal.a} in the air|whispered the first word]. // 后排的{b}[打了个手势|在空中画了{animal.a}|悄悄提示了第一个字]。
That was enough, and the rest came [by itself|like water]. // 这就够了，后面的[自己就来了|像流水一样出来了]。

On the evening of {town.festival} everyone in {town} carried {treasure.a} or {toy.a} through the streets. // {town.festival}的晚上，{town}人人都拿着{treasure.a}或者{toy.a}上街。
{a} had made {a.his} own out of {craft}, and it [burned best of all|fell apart at the first corner]. // {a}用{craft}自己做了一个，[比谁的都亮|走到第一个路口就散了]。
{b} lent {a.him} [half of {b.his} candle|a hand], and they walked on together. // {b}[分给{a.him}半根蜡烛|伸手帮{a.him}扶着]，两人接着往前走。
Over {town.river} the [fireworks|drums|bells] did not stop until midnight. // {town.river}上的[烟花|鼓声|钟声]到半夜才停。

The bus to {place} was late, and {a} sat down beside a stranger with {animal.a} on a string. // 去{place}的车晚点了，{a}在一个牵着{animal.a}的陌生人身边坐下。
"{weekday} is a bad day for travelling," the stranger said, and offered {snack.a}. // “{weekday}不宜出门，”陌生人说着，递过来{snack.a}。
They talked about {hobby}, about the weather and about the price of {vegetable.s}. // 他们聊{hobby}，聊天气，聊{vegetable}的价钱。
When the bus came, {a} knew the stranger's name: it was {b}. // 车来的时候，{a}已经知道这人叫{b}了。

Somebody had painted {wildanimal.a} on the wall of the school. // 不知是谁在学校的墙上画了{wildanimal.a}。
The headmaster was {bad} and wanted to know who it was. // 校长很{bad}，一定要查出是谁。
{a} put up a hand, though it had been {b}. // {a}举起了手，其实画的人是{b}。
?{b} sat there with {b.his} mouth open. // {b}坐在那里，嘴张得大大的。
The next day both of them stood at the wall with {tool.a} and {vessel.a} of water, [laughing|scrubbing without a word]. // 第二天，两个人拿着{tool.a}、端着一{vessel}水站在墙边，[边擦边笑|一声不响地擦着]。

A thief had taken {treasure.the} from the window of the shop. // 小偷从店铺橱窗里拿走了{treasure.the}。
{a} noticed [wet footprints|feathers|a trail of flour] on the floor and followed them. // {a}发现地上有[湿脚印|羽毛|一道面粉]，就顺着找过去。
It was no thief but {wildanimal.a}, sitting on top of {furniture.a}. // 哪有什么小偷，原来是{wildanimal.a}，正蹲在{furniture.a}上。
{b} held out {fruit.a}, and the animal let the {treasure} fall. // {b}递过去{fruit.a}，它就松开了{treasure}。

{a} wanted to open a small shop for {toy.s} in {town}. // {a}想在{town}开一家卖{toy}的小店。
The bank asked for papers, and {a.he} had only {price} coins and {furniture.a}. // 银行要看文书，{a.he}却只有{price}枚硬币和{furniture.a}。
?For a week nothing happened. // 一个星期过去了，什么动静也没有。
Then {b} rented {a.him} a room {spot}, and said the rent could be paid in {snack.s}. // 后来{b}租给{a.him}一间屋，就{spot}，说房租可以用{snack}抵。
On the first day {a.he} sold one {toy}; by {month} people came from {place}. // 头一天{a.he}只卖出{toy.a}；到了{month}，连{place}的人都来了。

At the library {a} found a note in an old book: "Look {spot}, behind the {furniture}." // 在图书馆，{a}在一本旧书里发现一张字条：“{spot}，{furniture}后面。”
{b} thought it was a joke, but [brought {tool.a}|came along all the same]. // {b}觉得是恶作剧，可还是[带上了{tool.a}|跟着去了]。
There was {treasure.a}, wrapped in {clothing.a}, and a second note. // 那里果然有{treasure.a}，裹在{clothing.a}里，还有第二张字条。
"[Put something here for the next reader|Now it is your turn to hide it]," it said. // 上面写着：“[给下一位读者留点什么吧|现在轮到你来藏了]。”
?So they left {stationery.a} and told <nobody>. // 于是他们留下{stationery.a}，对谁也没讲。
"""
