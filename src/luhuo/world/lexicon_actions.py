"""Actions of daily life: `base past ing|Chinese verb|classes of object`, and actions without an object."""

from __future__ import annotations

ACTIONS = """
repair repaired repairing|修|furniture machine vehicle toy instrument
paint painted painting|给…刷漆|furniture toy vehicle
wash washed washing|洗|clothing kitchen fruit vegetable
dry dried drying|晾干|clothing
fold folded folding|叠好|clothing
mend mended mending|缝补|clothing
iron ironed ironing|熨|clothing
sew sewed sewing|缝|clothing
polish polished polishing|擦亮|instrument treasure furniture
clean cleaned cleaning|清洗|kitchen tool machine vehicle
sharpen sharpened sharpening|磨|blade
borrow borrowed borrowing|借|tool stationery instrument
return returned returning|归还|tool stationery
buy bought buying|买|fruit vegetable clothing stationery kitchen toy furniture tool treasure
sell sold selling|卖掉|furniture farmanimal vehicle instrument machine
carry carried carrying|搬|furniture machine material
lift lifted lifting|抬起|furniture machine
hide hid hiding|藏起|treasure toy
find found finding|找到|treasure pet stationery
lose lost losing|弄丢|treasure stationery
wrap wrapped wrapping|包好|treasure toy snack
open opened opening|打开|kitchen
pack packed packing|收拾好|clothing stationery
peel peeled peeling|削|fruit
chop chopped chopping|切|vegetable
pick picked picking|摘|fruit flower
plant planted planting|种下|tree flower
water watered watering|给…浇水|flower tree vegetable
draw drew drawing|画|wildanimal flower tree pet
photograph photographed photographing|拍摄|wildanimal flower tree
feed fed feeding|喂|pet farmanimal
brush brushed brushing|给…刷毛|pet farmanimal
chase chased chasing|追赶|farmanimal pet
catch caught catching|抓住|pet farmanimal
count counted counting|数|farmanimal fruit
milk milked milking|给…挤奶|cow
cook cooked cooking|煮|dish vegetable
taste tasted tasting|尝|dish drink snack fruit
eat ate eating|吃|fruit snack dish
share shared sharing|分享|snack fruit
bake baked baking|烤|snack
drink drank drinking|喝|drink
pour poured pouring|倒|drink
heat heated heating|加热|dish drink
stir stirred stirring|搅拌|dish drink
order ordered ordering|点|dish drink
play played playing|演奏|instrument
tune tuned tuning|给…调音|instrument
practise practised practising|练习|instrument
make made making|做|toy snack furniture kitchen
build built building|造|furniture vehicle toy
break broke breaking|打碎|kitchen
drop dropped dropping|摔落|kitchen treasure
push pushed pushing|推|vehicle
pull pulled pulling|拉|vehicle
load loaded loading|装好|vehicle
hire hired hiring|租|vehicle
park parked parking|停好|vehicle
follow followed following|跟着|wildanimal
watch watched watching|观察|wildanimal
rescue rescued rescuing|救出|wildanimal pet
choose chose choosing|挑选|fruit clothing stationery flower
weigh weighed weighing|称|fruit vegetable material
store stored storing|存放|material vegetable
collect collected collecting|收集|material flower
burn burned burning|烧|material
cut cut cutting|切割|material
move moved moving|挪动|furniture
measure measured measuring|测量|furniture tree
test tested testing|试用|tool machine
oil oiled oiling|给…上油|tool machine vehicle
examine examined examining|检查|machine treasure vehicle
copy copied copying|临摹|flower wildanimal
describe described describing|描述|treasure wildanimal
sketch sketched sketching|速写|tree furniture vehicle
admire admired admiring|欣赏|flower treasure tree
gather gathered gathering|收拾|stationery tool
deliver delivered delivering|送|furniture snack dish
bury buried burying|埋下|treasure
dig up+dug up+digging up|挖出|vegetable treasure
put away+put away+putting away|收好|toy tool stationery clothing
take apart+took apart+taking apart|拆开|machine toy
hang up+hung up+hanging up|挂起|clothing
throw away+threw away+throwing away|扔掉|clothing furniture
look after+looked after+looking after|照顾|pet farmanimal
look for+looked for+looking for|寻找|treasure pet
try on+tried on+trying on|试穿|clothing
give away+gave away+giving away|送掉|toy clothing
"""
"""Past and base contain `+` between forms where a verb has a particle; 给…刷漆 puts the object at the dots."""

PLAIN = """
sweep the yard swept the yard sweeping the yard|扫院子
clear the snow cleared the snow clearing the snow|铲雪
fetch water fetched water fetching water|打水
write a letter wrote a letter writing a letter|写信
read the newspaper read the newspaper reading the newspaper|看报纸
tell a story told a story telling a story|讲故事
sing an old song sang an old song singing an old song|唱一首老歌
light the stove lit the stove lighting the stove|生炉子
close the shutters closed the shutters closing the shutters|关上窗板
set the table set the table setting the table|摆好碗筷
climb the hill climbed the hill climbing the hill|爬山
cross the river crossed the river crossing the river|过河
row across the lake rowed across the lake rowing across the lake|划船过湖
wait for the ferry waited for the ferry waiting for the ferry|等渡船
listen to the rain listened to the rain listening to the rain|听雨
visit the museum visited the museum visiting the museum|参观博物馆
learn to swim learned to swim learning to swim|学游泳
teach the children taught the children teaching the children|教孩子们
help the neighbours helped the neighbours helping the neighbours|帮邻居的忙
make dinner made dinner making dinner|做晚饭
go fishing went fishing going fishing|去钓鱼
walk home walked home walking home|走回家
take a nap took a nap taking a nap|睡午觉
plan the festival planned the festival planning the festival|筹备节日
count the money counted the money counting the money|数钱
chop firewood chopped firewood chopping firewood|劈柴
weed the garden weeded the garden weeding the garden|给花园除草
fly a kite flew a kite flying a kite|放风筝
play chess played chess playing chess|下棋
look at the stars looked at the stars looking at the stars|看星星
draw a map drew a map drawing a map|画地图
mend the fence mended the fence mending the fence|修篱笆
bake bread baked bread baking bread|烤面包
check the homework checked the homework checking the homework|检查作业
ring the bell rang the bell ringing the bell|敲钟
dance until midnight danced until midnight dancing until midnight|跳舞跳到半夜
train for the race trained for the race training for the race|为比赛训练
clean the windows cleaned the windows cleaning the windows|擦窗户
hang out the washing hung out the washing hanging out the washing|晾衣服
answer the telephone answered the telephone answering the telephone|接电话
"""
"""Each line holds three forms of equal length in words: base, past, -ing."""
