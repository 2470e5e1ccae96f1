"""Event schemas of home and work. A line is `English // Chinese`; a blank line ends a schema; `?` marks an optional beat.

Slots: {a} and {b} people, {item} {food} … things, {act} an action, {town} the town, {spot} a place.
"""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SCENES = """
{a} could not find {a.his} {item} [anywhere|in the whole house|that <evening>]. // {a}[怎么也|翻箱倒柜也|那天<早晚>]找不到{a.his}{item}。
?{a.he} looked {spot} and then {spottwo}, [but <nobody> had seen it|but it was not there|and found only {treasure.a}]. // {a.he}{spot}找了找，又{spottwo}找，[可是都没有|只看见{treasure.a}|问谁都说没看见]。
{b} [remembered|suddenly remembered] that {a.he} had left it {spotthree} while {act.ing}. // {b}[想起来|忽然记起]，{a}{act}的时候把它落{spotthree}了。
[{a} ran there <quickly>|They went back together], and there it lay, under {clothing.a}. // [{a}<赶紧>跑过去|两个人一起回去]，果然，它就压在{clothing.a}下面。

The {machine} [stopped|broke down|made a terrible noise] just when {a} wanted to {act}. // {a}正想{act}，{machine}却[停了|坏了|发出一阵怪响]。
{a.he} hit it with {tool.a}, which [only made things worse|helped for a minute|changed nothing]. // {a.he}用{tool.a}敲了敲，[结果更糟|只管用了一分钟|一点用也没有]。
?"[Have you read the instructions?|Is it plugged in?|Let me try]," {b} <said>. // {b}<说>：“[你看过说明吗？|插头插好了吗？|让我来试试。]”
{b} took it apart <slowly> and found {stationery.a} stuck inside. // {b}<慢慢>把它拆开，发现里面卡着{stationery.a}。
From then on {a} [kept it covered|cleaned it every week|listened to {b} more often]. // 从那以后，{a}[总给它盖上布|每个星期都清理它|更愿意听{b}的话了]。

{a} had promised to {act}, but [forgot all about it|fell asleep {spot}|was too busy with {hobby}]. // {a}答应过要{act}，[可是忘得一干二净|却{spot}睡着了|却一心忙着{hobby}]。
{b} was {bad} and [did not speak all evening|went home without a word|wrote a short, cold note]. // {b}觉得{bad}，[整晚没有说话|一句话不说就回家了|写了一张冷冰冰的字条]。
To make up for it, {a} [brought|bought|baked] {snack.a} and [knocked at the door|waited {spottwo}]. // 为了赔礼，{a}[带来|买来|做了]{snack.a}，[去敲门|{spottwo}等着]。
"[A promise is a promise|Next time, tell me the truth|You are forgiven]," {b} <said>. // {b}<说>：“[说到就要做到|下次要跟我说实话|我原谅你了]。”

Because {weather}, {a} [stayed indoors|could not leave the house] and <began> {act}. // 因为{weather}，{a}[待在屋里|出不了门]，便开始{act}。
?The room smelled of {drinktwo} and old paper. // 屋里有一股{drinktwo}和旧纸的味道。
After an hour there was a knock: {b} stood outside with {food.a} and {clothing.a} over one arm. // 一个钟头后有人敲门：{b}站在外面，端着{food.a}，胳膊上搭着{clothing.a}。
They [ate in silence|talked until the lamp went out|laughed about {a.his} old {toy}]. // 两人[默默地吃着|一直聊到灯灭|说起{a.his}旧{toy}，都笑了]。

{a} wanted to cook {dish.a} for {b}, but there was no {staple} left in the house. // {a}想给{b}做{dish.a}，可是家里没有{staple}了。
The shop had [closed early|sold the last of it|moved to the next street]. // 店里[早早关了门|刚卖完最后一点|正在盘点]。
So {a.he} used {vegetable.a} and {fruit.a} instead, and [hoped for the best|told <nobody>]. // {a.he}只好用{vegetable.a}和{fruit.a}代替，[心想应该也行|没告诉任何人]。
{b} took one spoonful, [put down the spoon|closed {b.his} eyes|looked up], and asked for [more|a glass of water|the recipe]. // {b}尝了一口，[放下勺子|闭上眼睛|抬起头]，说要[再来一碗|喝口水|抄下做法]。

One <evening> {a} heard [a scratching|a strange noise|a soft cry] behind the door. // 一天<早晚>，{a}听见门外有[抓挠声|奇怪的响声|轻轻的叫声]。
It was {pet.a} that had [lost its way|crept under the steps|hidden from the dogs]. // 原来是{pet.a}，[迷了路|钻到了台阶下面|在躲狗]。
{a} gave it some food and made a bed out of {clothing.a}. // {a}喂了它一点吃的，用{clothing.a}给它做了个窝。
?{b} shook {b.his} head: "[We cannot keep it|It will eat everything|Who will feed it]?" // {b}摇摇头：“[我们真要养它吗|它会把什么都吃光的吧|谁来喂它呢]？”
But [by morning|by the end of the week] it was asleep on {b.his} knees. // 可是[到了早上|还没过完一个星期]，它就睡在{b}的腿上了。

For the birthday of {b}, {a} had saved enough to buy {item.a}. // 为了{b}的生日，{a}攒够了买{item.a}的钱。
On the way to the shop {a.he} met a [child|man|woman] who had [dropped all the coins|nothing to eat|lost {treasure.a}]. // 去店里的路上，{a.he}碰见一个[孩子|老人|妇人]，[钱都丢了|什么吃的也没有|丢了{treasure.a}]。
{a} gave away [half the money|every coin], and came home with {fruit.a}. // {a}把[一半的钱|所有的钱]都给了人家，只带了{fruit.a}回家。
{b} heard the story, cut the {fruit} in two, and said it was the best birthday of all. // {b}听了这件事，把{fruit}切成两半，说这是最好的生日。

{a} started work as an apprentice {spot}, and on the first day everything went wrong. // {a}{spot}当学徒，第一天什么都不顺。
{a.he} spilled {drink.the}, stepped on {stationery.a}, and [called the master by the wrong name|arrived an hour late]. // {a.he}打翻了{drink}，踩了{stationery.a}，还[叫错了师傅的名字|迟到了一个钟头]。
"Everyone has such a day," <said> {b}. "Mine was worse: I broke {furniture.a}." // {b}<说>：“谁都有这样的一天。我那天更糟，弄坏了{furniture.a}。”
That [made {a} laugh|was a comfort], and the second day went better. // 这话[让{a}笑了|叫人安心]，第二天就好多了。

The roof leaked, and [by noon|overnight] there was a puddle under {furniture.the}. // 屋顶漏了雨，[到了中午|一夜之间]，{furniture}下面积了一摊水。
{a} put {vessel.a} under the leak and went to borrow {tool.a} from {b}. // {a}拿{vessel.a}接着水，去找{b}借{tool.a}。
?The drops fell with the sound of a slow {instrument}. // 水滴的声音像有人在慢慢地弹{instrument}。
They worked until dark, and [the next rain stayed outside|not a drop came through again]. // 两人干到天黑，[下一场雨再也进不来了|后来一滴水也没漏]。

{a} and {b} could not agree [what to do with|who should have|how to divide] {item.the}. // {a}和{b}为了{item.the}争执不下，[不知道该怎么办|都说该归自己|不知道怎么分]。
"[I saw it first|It belonged to my grandmother|I paid for it]," {a} <said>. // {a}<说>：“[是我先看见的|那是我奶奶留下的|钱是我付的]。”
"[You never use it|You would only lose it|We could take turns]," {b} <said>. // {b}<说>：“[你又从来不用|你只会把它弄丢|我们可以轮流用嘛]。”
In the end they [sold it and bought {animal.a}|gave it to a child {spot}|drew lots with two straws]. // 最后两人[把它卖了，买了{animal.a}|把它送给了{spot}玩的孩子|抽签决定]。

{a} had not slept [well|at all] because {bother}. // 因为{bother}，{a}[没睡好|一夜没合眼]。
At work {a.he} put {kitchen.a} where {tool.a} should be, and [<nobody> dared to speak|everybody smiled]. // 上班时{a.he}把{kitchen.a}放到了该放{tool}的地方，[大家都不敢说话|大家都笑了]。
{b} sent {a.him} home with the words: "[Sleep is also work|Come back as a human being|The world can wait until tomorrow]." // {b}打发{a.he}回家，说：“[睡觉也是干活|睡醒了再来|天大的事明天再说]。”

There was a letter for {a} [under the door|on the table], with a stamp from {place}. // [门缝下|桌子上]有一封给{a}的信，贴着{place}的邮票。
{a.he} turned it over three times before opening it with {kitchentwo.a}. // {a.he}把信翻来覆去看了三遍，才用{kitchentwo.a}拆开。
It said only: "[I am coming home|The {animal} is well again|Forgive me for the {item}]. {b}" // 信上只有一句话：“[我要回家了|{animal}的病好了|{item}的事请原谅我]。{b}”
{a} read it aloud [to the cat|to <nobody>], and felt {good}. // {a}[对着猫|对着空屋子]念了一遍，觉得{good}。

The old {machine} had belonged to {a.his} grandmother, and {a} [would not part with it|used it every day]. // 那台老{machine}是{a}奶奶留下的，{a}[舍不得扔|天天都用]。
When a dealer offered {price} coins, {b} thought it was a good price. // 有个商人出{price}枚硬币，{b}觉得价钱不错。
{a} only said that [some things are not for sale|it still smelled of {drinktwo}|the dealer should come back in a hundred years]. // {a}只说，[有些东西是不卖的|它还带着{drinktwo}的香味|请他一百年以后再来]。
?The dealer left, and forgot {clothing.a} on the chair. // 商人走了，把{clothing.a}忘在椅子上。

{a} tried to {act}, though {a.he} had never done it before. // {a}想试试{act}，虽然{a.he}从来没干过。
The first try [failed|ended on the floor], the second [was not much better|cost {a.him} {kitchen.a}]. // 第一次[失败了|摔在地上]，第二次[也没好多少|还赔上了{kitchen.a}]。
"[Hold it like {treasure.a}|Slower|Not with your left hand]," {b} <said>. // {b}<说>：“[要像拿{treasure.a}那样轻|慢一点|别用左手]。”
By the evening {a} could do it [with closed eyes|almost as well as {b}|without thinking]. // 到了晚上，{a}[闭着眼睛也会了|做得差不多跟{b}一样好|不用想就能做好]。

On {weekday} the children came to {b.his} house to learn {hobby}. // {weekday}，孩子们来到{b}家学{hobby}。
The smallest one hid behind {furniture.a} and [said nothing|ate {snack.a}|watched with big eyes]. // 最小的那个躲在{furniture.a}后面，[不说话|吃着{snack.a}|睁大眼睛看着]。
{a} sat down beside the child and <began> {act}, as if alone. // {a}在那孩子旁边坐下，像没有别人一样，自顾自地{act}。
After a while a small hand [pulled {a.his} sleeve|reached for the {item}]: "May I try?" // 过了一会儿，一只小手[拉了拉{a}的袖子|伸向{item}]：“我可以试试吗？”
"""
