"""Nouns of the world in both languages: `english=chinese/measure word`, one class a paragraph.

A class line is `name measure low high count|mass`: the default measure word and the range of prices in coins.
"""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

NOUNS = """
fruit 个 2 9 count
apple=苹果; pear=梨; peach=桃子; plum=李子; orange=橙子; lemon=柠檬; melon=甜瓜; fig=无花果; cherry=樱桃/颗; apricot=杏子;
persimmon=柿子; pomegranate=石榴; quince=木瓜; mango=芒果; banana=香蕉/根; grapefruit=柚子; date=枣/颗; walnut=核桃/颗;
chestnut=栗子/颗; lychee=荔枝/颗; strawberry=草莓/颗; mulberry=桑葚/颗; kiwi=猕猴桃; pineapple=菠萝; coconut=椰子

vegetable 棵 1 8 count
cabbage=白菜; carrot=胡萝卜/根; potato=土豆/个; onion=洋葱/个; tomato=番茄/个; pumpkin=南瓜/个; cucumber=黄瓜/根;
radish=萝卜/根; eggplant=茄子/个; leek=韭葱/根; mushroom=蘑菇/朵; turnip=芜菁/个; pepper=辣椒/个; yam=山药/根; beetroot=甜菜/个;
lettuce=生菜; cauliflower=花椰菜; lotus root=莲藕/节; bean pod=豆荚/个; garlic bulb=大蒜/头; sweet potato=红薯/个; bamboo shoot=竹笋/根

dish 碗 4 18 mass
noodle soup=汤面; fried rice=炒饭/盘; lamb stew=炖羊肉; fish soup=鱼汤; rice porridge=米粥; dumpling soup=饺子汤; roast duck=烤鸭/盘;
mushroom pie=蘑菇馅饼/块; bean curd=豆腐/盘; braised pork=红烧肉/盘; steamed fish=蒸鱼/盘; cabbage soup=白菜汤; beef curry=咖喱牛肉/盘;
pickled radish=腌萝卜/碟; egg custard=蒸蛋; pumpkin soup=南瓜汤; barley stew=大麦炖菜; cold noodles=凉面; spicy chicken=辣子鸡/盘;
corn chowder=玉米浓汤; lotus soup=莲藕汤; hot pot=火锅/份

snack 个 1 9 count
sesame cake=芝麻饼/块; steamed bun=包子; honey biscuit=蜂蜜饼干/块; rice cake=年糕/块; apple pie=苹果派; walnut cookie=核桃酥/块;
moon cake=月饼; pancake=煎饼/张; sandwich=三明治; dumpling=饺子; spring roll=春卷; candy=糖/颗; pretzel=椒盐卷饼; tart=果挞; waffle=华夫饼/块;
lollipop=棒棒糖/根; egg tart=蛋挞; corn cake=玉米饼/块; bean bun=豆沙包; doughnut=甜甜圈; rice ball=饭团; toffee apple=糖苹果

drink 杯 1 7 mass
green tea=绿茶; milk=牛奶; plum juice=酸梅汤; soy milk=豆浆; coffee=咖啡; ginger tea=姜茶; lemonade=柠檬水; hot chocolate=热巧克力;
barley tea=大麦茶; pear syrup=梨膏水; mint water=薄荷水; black tea=红茶; apple cider=苹果汁; honey water=蜂蜜水; coconut milk=椰奶;
jasmine tea=茉莉花茶; warm water=温水; rose tea=玫瑰花茶

tool 把 8 60 count
hammer=锤子; saw=锯子; shovel=铁锹; rake=耙子; axe=斧头; wrench=扳手; screwdriver=螺丝刀; file=锉刀; trowel=泥刀; ladder=梯子/架;
pair of scissors+pairs of scissors=剪刀; needle=针/根; brush=刷子; broom=扫帚; hoe=锄头; sickle=镰刀; chisel=凿子; pulley=滑轮/个; rope=绳子/根; bucket=水桶/只;
wheelbarrow=手推车/辆; fishing rod=鱼竿/根; net=渔网/张; compass=指南针/个; magnifier=放大镜/个; telescope=望远镜/架; lantern=灯笼/盏;
thermometer=温度计/支; scale=秤/杆; ruler=尺子; paddle=船桨/支; plough=犁/张; pump=水泵/台; watering can=喷壶/个; tape measure=卷尺/个

kitchen 个 5 40 count
kettle=水壶/把; pot=锅/口; pan=平底锅/口; bowl=碗; plate=盘子; cup=杯子; spoon=勺子/把; fork=叉子/把; knife+knives=刀/把; teapot=茶壶/把; jar=罐子;
basket=篮子; tray=托盘; jug=水罐; ladle=汤勺/把; rolling pin=擀面杖/根; steamer=蒸笼; stove=炉子; oven=烤箱/台; chopping board=砧板/块; sieve=筛子;
bottle=瓶子; lunch box+lunch boxes=饭盒; mixing bowl=搅拌盆

clothing 件 15 90 count
coat=大衣; shirt=衬衫; sweater=毛衣; skirt=裙子/条; scarf+scarves=围巾/条; hat=帽子/顶; raincoat=雨衣; jacket=夹克; vest=背心; belt=腰带/条; dress=连衣裙/条;
robe=长袍; cloak=斗篷; apron=围裙/条; cap=便帽/顶; shawl=披肩/条; pair of gloves+pairs of gloves=手套/双; pair of boots+pairs of boots=靴子/双; pair of socks+pairs of socks=袜子/双; pair of sandals+pairs of sandals=凉鞋/双;
pair of trousers+pairs of trousers=裤子/条; waistcoat=马甲; straw hat=草帽/顶; handkerchief=手帕/条

toy 个 5 45 count
kite=风筝/只; doll=布娃娃; top=陀螺; ball=皮球; puzzle=拼图/副; toy boat=玩具船/只; wooden horse=木马/匹; drum=小鼓/面; whistle=哨子; balloon=气球; marble=弹珠/颗;
teddy bear=玩具熊/只; toy train=玩具火车/列; yo-yo=悠悠球; skipping rope=跳绳/根; paper crane=纸鹤/只; chess set=象棋/副; spinning wheel=风车; building block=积木/块;
puppet=木偶; rattle=拨浪鼓; jigsaw=拼板/副; slingshot=弹弓; paper lantern=纸灯笼/盏

stationery 个 1 25 count
pencil=铅笔/支; pen=钢笔/支; notebook=笔记本/本; eraser=橡皮/块; map=地图/张; envelope=信封; stamp=邮票/张; calendar=日历/本; diary=日记本/本; dictionary=词典/本; ink bottle=墨水瓶;
writing brush+writing brushes=毛笔/支; inkstone=砚台/方; crayon=蜡笔/支; postcard=明信片/张; sketchbook=素描本/本; folder=文件夹; globe=地球仪; school bag=书包; storybook=故事书/本; atlas+atlases=地图册/本;
picture book=图画书/本; paintbrush+paintbrushes=画笔/支; ruler set=尺规/套; paper knife+paper knives=裁纸刀/把

furniture 张 30 200 count
table=桌子; chair=椅子/把; bed=床; desk=书桌; bench=长凳/条; shelf+shelves=架子/个; cupboard=橱柜/个; wardrobe=衣柜/个; stool=凳子; mirror=镜子/面; lamp=台灯/盏; carpet=地毯/块; curtain=窗帘/块;
clock=时钟/座; cradle=摇篮/个; chest=箱子/口; sofa=沙发; bookcase=书柜/个; rocking chair=摇椅/把; screen=屏风/扇; mattress=床垫; candlestick=烛台/个; blanket=毯子/条; pillow=枕头/个; quilt=被子/床

instrument 把 30 180 count
violin=小提琴; flute=笛子/支; guitar=吉他; piano=钢琴/架; trumpet=小号/支; zither=古筝/张; accordion=手风琴/架; harp=竖琴/架; bell=铃铛/个; gong=锣/面; cello=大提琴; pipa=琵琶; erhu=二胡; harmonica=口琴/个;
bamboo flute=竹笛/支; tambourine=铃鼓/面; horn=号角/支; lute=鲁特琴

treasure 个 10 120 count
ring=戒指/枚; necklace=项链/条; bracelet=手镯/只; brooch=胸针/枚; comb=梳子/把; fan=扇子/把; vase=花瓶; music box+music boxes=八音盒; pocket watch+pocket watches=怀表/块; key=钥匙/把; wallet=钱包; umbrella=雨伞/把; medal=奖章/枚; seal=印章/枚; purse=小钱袋; photograph=照片/张;
coin=硬币/枚; silver spoon=银勺/把; jade pendant=玉佩/块; letter=信/封; parcel=包裹; suitcase=行李箱; backpack=背包; pair of glasses+pairs of glasses=眼镜/副; pearl=珍珠/颗; locket=小相盒; walking stick=拐杖/根; old map=旧地图/张; feather=羽毛/根; shell=贝壳/枚

pet 只 10 80 count
cat=猫; dog=狗; rabbit=兔子; parrot=鹦鹉; hamster=仓鼠; turtle=乌龟; goldfish+goldfish=金鱼/条; canary=金丝雀; puppy=小狗; kitten=小猫; pigeon=鸽子; guinea pig=豚鼠; cricket=蟋蟀; hedgehog=刺猬

farmanimal 头 30 200 count
cow=奶牛; pig=猪; sheep+sheep=绵羊/只; goat=山羊/只; horse=马/匹; donkey=驴; hen=母鸡/只; duck=鸭子/只; goose+geese=鹅/只; rooster=公鸡/只; mule=骡子; ox+oxen=公牛; lamb=羊羔/只; calf+calves=小牛; foal=小马驹/匹; duckling=小鸭/只

wildanimal 只 50 300 count
fox=狐狸; deer+deer=鹿; wolf+wolves=狼; bear=熊; hare=野兔; squirrel=松鼠; owl=猫头鹰; eagle=老鹰; heron=苍鹭; crane=鹤; otter=水獭; badger=獾; frog=青蛙; snake=蛇/条; hawk=鹰; magpie=喜鹊; swallow=燕子; sparrow=麻雀; crow=乌鸦; swan=天鹅;
bat=蝙蝠; monkey=猴子; wild boar=野猪/头; lizard=蜥蜴; snail=蜗牛; butterfly=蝴蝶; bee=蜜蜂; dragonfly=蜻蜓; firefly=萤火虫; beetle=甲虫; carp+carp=鲤鱼/条; trout+trout=鳟鱼/条; crab=螃蟹; seal pup=小海豹; woodpecker=啄木鸟; cuckoo=布谷鸟; spider=蜘蛛; moth=飞蛾;
tortoise=陆龟; panther=黑豹; lynx=猞猁; stork=鹳; weasel=黄鼬; marten=貂; pheasant=野鸡; kingfisher=翠鸟

flower 朵 1 8 count
rose=玫瑰/枝; lily=百合; peony=牡丹; chrysanthemum=菊花; lotus+lotuses=荷花; orchid=兰花/株; tulip=郁金香; daisy=雏菊; sunflower=向日葵; violet=紫罗兰; jasmine=茉莉; iris+irises=鸢尾; camellia=山茶花; poppy=罂粟花; azalea=杜鹃花; daffodil=水仙; lavender sprig=薰衣草/枝; plum blossom=梅花/枝; marigold=万寿菊; bluebell=风铃草

tree 棵 5 50 count
oak=橡树; pine=松树; willow=柳树; maple=枫树; birch=白桦; poplar=杨树; cedar=雪松; elm=榆树; ash=白蜡树; cypress=柏树; ginkgo=银杏; bamboo=竹子; apple tree=苹果树; peach tree=桃树; mulberry tree=桑树; camphor tree=樟树; walnut tree=核桃树; plum tree=李子树; pear tree=梨树; fir=冷杉; linden=椴树; phoenix tree=梧桐树; chestnut tree=栗子树; hawthorn=山楂树

vehicle 辆 40 400 count
bicycle=自行车; cart=马车; bus=公共汽车; truck=卡车; boat=小船/条; ferry=渡船/艘; sledge=雪橇/架; tricycle=三轮车; raft=木筏/只; canoe=独木舟/只; tram=电车; wagon=货车; sailing boat=帆船/艘; scooter=滑板车; handcart=板车; barge=驳船/艘

machine 台 40 300 count
radio=收音机; camera=照相机; sewing machine=缝纫机; printing press+printing presses=印刷机; loom=织布机; telephone=电话/部; washing machine=洗衣机; fridge=冰箱; water wheel=水车/架; windmill=风车磨坊/座; computer=电脑; typewriter=打字机; generator=发电机; heater=取暖器; microscope=显微镜/架; weather vane=风向标/个; fan heater=暖风机; lawnmower=割草机

material 块 1 20 mass
wood=木头; stone=石头; clay=陶土; wool=羊毛/团; cotton=棉花/团; silk=丝绸/匹; leather=皮革; paper=纸/张; glass=玻璃; iron=铁; copper=铜; bamboo=竹子/根; straw=稻草/捆; wax=蜡; linen=亚麻布; brick=砖; charcoal=木炭; soap=肥皂; salt=盐/袋; flour=面粉/袋; rice=大米/袋; sugar=糖/袋; honey=蜂蜜/罐; oil=油/瓶; vinegar=醋/瓶; tea leaf=茶叶/包; firewood=柴火/捆; chalk=粉笔/支; rope fibre=麻/束; lime=石灰/袋
"""

COLOURS = "red=红; blue=蓝; green=绿; yellow=黄; white=白; black=黑; grey=灰; brown=棕; purple=紫; orange=橙; pink=粉; golden=金; silver=银; crimson=深红; turquoise=青绿"

ADJECTIVES = {
    "size": "small=小; big=大; little=小小的; large=大大的; tiny=小巧的; huge=巨大的; narrow=窄窄的; wide=宽宽的; tall=高高的; long=长长的",
    "made": (
        "new=新; old=旧; broken=坏掉的; heavy=沉甸甸的; light=轻巧的; wooden=木头做的; strange=奇怪的; beautiful=漂亮的; cheap=便宜的; fine=精致的; "
        "dusty=落满灰的; shiny=闪亮的; plain=朴素的; painted=上过漆的; carved=雕花的; rusty=生锈的; simple=简单的; sturdy=结实的; borrowed=借来的; "
        "second-hand=二手的; handmade=手工做的; well-made=做工很好的; striped=带条纹的; round=圆圆的; crooked=歪歪的; smooth=光滑的; clean=干净的; "
        "forgotten=被人遗忘的; ordinary=普通的; precious=珍贵的; curious=新奇的; pretty=好看的; polished=擦得发亮的; patched=打过补丁的"
    ),
    "food": (
        "ripe=熟透的; fresh=新鲜的; sweet=甜甜的; sour=酸酸的; juicy=多汁的; crisp=脆脆的; warm=热乎乎的; tasty=好吃的; fragrant=香喷喷的; soft=软软的; "
        "spicy=辣辣的; delicious=美味的; homemade=自家做的; salty=咸咸的; steaming=冒着热气的; cold=冰凉的; bitter=微苦的; plain=清淡的"
    ),
    "animal": (
        "hungry=饥饿的; clever=聪明的; shy=害羞的; lazy=懒洋洋的; noisy=吵闹的; wounded=受伤的; friendly=友善的; sleepy=困倦的; young=年幼的; old=年老的; "
        "quick=敏捷的; fat=胖乎乎的; thin=瘦瘦的; brave=勇敢的; spotted=带斑点的; stubborn=倔强的; gentle=温顺的; wet=湿漉漉的; curious=好奇的; lonely=孤单的; "
        "frightened=受惊的; playful=爱玩的; limping=一瘸一拐的; silent=不出声的"
    ),
    "plant": (
        "tall=高大的; blooming=盛开的; wild=野生的; withered=枯萎的; young=幼小的; old=古老的; fragrant=芬芳的; green=翠绿的; bent=弯弯的; lonely=孤零零的; "
        "slender=纤细的; bare=光秃秃的; flowering=开着花的; hundred-year-old=百年的; bright=鲜艳的; dewy=沾着露水的"
    ),
}
"""Adjectives by the class of noun they suit; the Chinese side carries its 的 where one is needed."""

SUITS = {
    "fruit": "food", "vegetable": "food", "dish": "food", "snack": "food", "drink": "food",
    "pet": "animal", "farmanimal": "animal", "wildanimal": "animal", "flower": "plant", "tree": "plant",
}  # fmt: skip
"""Which adjectives suit a class; every other class takes sizes, colours and "made"."""
