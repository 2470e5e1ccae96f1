"""Places: pieces from which invented names are composed, and the features of towns and countryside."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

TOWN_HEAD = (
    "Stone=石; Willow=柳; Silver=银; Green=青; Red=红; White=白; Black=黑; Gold=金; Deep=深; High=高; Long=长; Clear=清; Cold=寒; Wind=风; Cloud=云; Moon=月; Star=星; Snow=雪; Rain=雨; "
    "Sun=阳; Frost=霜; Salt=盐; Iron=铁; Copper=铜; Amber=珀; Jade=玉; Pine=松; Maple=枫; Plum=梅; Peach=桃; Apple=果; Reed=苇; Fern=蕨; Moss=苔; Rose=玫; Lotus=莲; Fox=狐; Deer=鹿; "
    "Crane=鹤; Swan=鹄; Horse=马; Ox=牛; Crow=鸦; Otter=獭; Fish=鱼; Bell=钟; Lamp=灯; Mill=磨; East=东; West=西; North=北; South=南; Ember=烬; Thunder=雷; Mist=雾; Sand=沙; Honey=蜜; Tea=茶; Silk=丝; Quiet=静"
)
TOWN_TAIL = (
    "bridge=桥; field=原; ford=渡; haven=港; wood=林; well=井; gate=门; hill=岗; brook=溪; mere=湖; cliff=崖; vale=谷; shore=岸; wick=寨; ton=屯; dale=川; pool=潭; spring=泉; rock=岩; "
    "meadow=坪; port=埠; tower=塔; garden=园; market=集; bay=湾; bank=堤"
)
NATURE_HEAD = (
    "Grey=灰; Blue=蓝; Wild=野; Laughing=笑; Sleeping=眠; Broken=断; Hidden=隐; Little=小; Great=大; Old=老; Young=幼; Bright=明; Dark=暗; Singing=歌; Winding=弯; Hollow=空; Lost=迷; "
    "Twin=双; Golden=金; Crooked=曲; Gentle=柔; Bitter=苦; Sweet=甜; Red=赤; Misty=雾; Silent=默; Swift=疾; Seven=七; Frozen=冰; Burning=火"
)
NATURE_TAIL = (
    "Heron=鹭; Badger=獾; Eagle=鹰; Turtle=龟; Wolf=狼; Hare=兔; Carp=鲤; Bear=熊; Lark=雀; Swallow=燕; Dragon=龙; Tiger=虎; Needle=针; Drum=鼓; Kettle=壶; Mirror=镜; Sword=剑; Ladder=梯; "
    "Pearl=珠; Feather=羽; Saddle=鞍; Cedar=杉; Orchid=兰; Bamboo=竹; Thorn=棘; Barley=麦; Ginger=姜; Pepper=椒; Button=扣; Lantern=灯笼"
)
COUNTRY_HEAD = "Ve 维 Ka 卡 Lo 洛 Mi 米 Ta 塔 Su 苏 Ar 阿尔 El 埃尔 No 诺 Za 扎 Pe 佩 Ri 里"
COUNTRY_MID = "lo 洛 ra 拉 mi 米 ne 内 sto 斯托 lan 兰 ve 韦 do 多 ri 里 ka 卡"
COUNTRY_TAIL = "ra 拉 nia 尼亚 land 兰 via 维亚 mar 马尔 sia 西亚 dor 多尔 thia 西娅"

SPOTS = (
    "by the old bridge=在老桥边; in the market square=在集市广场上; behind the school=在学校后面; at the bus stop=在车站; under the big tree=在大树下; on the hillside=在山坡上; "
    "near the well=在水井旁; in the library=在图书馆里; at the harbour=在码头; in the tea house=在茶馆里; beside the pond=在池塘边; on the stairs=在楼梯上; in the courtyard=在院子里; "
    "at the edge of the forest=在树林边; in the kitchen=在厨房里; on the roof=在屋顶上; at the crossroads=在十字路口; in the barn=在谷仓里; by the window=在窗边; in the garden=在花园里; "
    "at the mill=在磨坊; in the workshop=在作坊里; outside the bakery=在面包店外面; along the river bank=在河岸上; in a narrow lane=在一条小巷里; at the railway station=在火车站; "
    "in the town hall=在镇公所里; near the temple gate=在庙门口; behind the stables=在马厩后面; on the ferry=在渡船上; in the attic=在阁楼里; at the post office=在邮局; "
    "in the cornfield=在玉米地里; in the waiting room=在候诊室里; beside the fountain=在喷泉旁; at the foot of the wall=在墙脚下; on the playground=在操场上; in the orchard=在果园里; "
    "by the stove=在炉子旁; at the back door=在后门口"
)

BUILDINGS = (
    "bakery=面包店/家; bookshop=书店/家; tea house=茶馆/家; school=学校/所; library=图书馆/座; hospital=医院/家; post office=邮局/家; market=集市/个; temple=寺庙/座; theatre=剧院/座; museum=博物馆/座; "
    "bank=银行/家; inn=客栈/家; mill=磨坊/座; harbour=码头/座; railway station=火车站/座; town hall=镇公所/座; bell tower=钟楼/座; lighthouse=灯塔/座; bathhouse=澡堂/家; pharmacy=药店/家; "
    "toy shop=玩具店/家; tailor's shop=裁缝铺/家; flower shop=花店/家; restaurant=饭馆/家; brewery=酒坊/家; stadium=体育场/座; park=公园/座; orchard=果园/片; observatory=天文台/座; "
    "fire station=消防站/座; barber's shop=理发店/家; hardware shop=五金店/家; fish market=鱼市/个; pottery=陶坊/家; paper mill=造纸坊/家; dairy=奶场/家; stone bridge=石桥/座; city wall=城墙/道; water tower=水塔/座"
)

PRODUCTS = (
    "tea=茶叶; silk=丝绸; paper=纸张; pottery=陶器; cheese=奶酪; honey=蜂蜜; salt=盐; wool=羊毛; wine=葡萄酒; glass=玻璃; furniture=家具; lanterns=灯笼; knives=刀具; umbrellas=雨伞; "
    "dried fish=鱼干; peaches=桃子; chestnuts=栗子; ink=墨; bells=铜钟; carpets=地毯; soap=肥皂; candles=蜡烛; violins=小提琴; noodles=面条; vinegar=醋; roses=玫瑰; apples=苹果; coal=煤; "
    "marble=大理石; kites=风筝; linen=亚麻布; mushrooms=蘑菇; olive oil=橄榄油; clocks=钟表; toys=玩具; leather=皮革; rice=大米; sugar=糖; rope=绳索; bricks=砖"
)

FESTIVALS = (
    "Lantern Night=灯笼夜; Harvest Fair=丰收节; Kite Day=风筝日; River Festival=河神节; Snow Feast=雪宴节; Blossom Week=花开周; Bell Day=敲钟日; Boat Race=赛船会; Tea Fair=品茶会; "
    "Mask Night=面具夜; Noodle Day=面条节; Candle Walk=烛光游行; Song Day=对歌日; Honey Fair=蜂蜜节; Stone Day=立石节; Rain Dance=祈雨节"
)

SEASONS = "spring=春天; summer=夏天; autumn=秋天; winter=冬天"

WEATHER = {
    "spring": (
        "a soft rain was falling=细雨蒙蒙; the first flowers had opened=最早的花已经开了; a mild wind blew from the river=和风从河上吹来; the swallows had come back=燕子飞回来了; "
        "the ice had just melted=冰刚刚化开; the fields smelled of wet earth=田野里有一股湿土的气味; puddles shone in the lanes=小巷里的水洼闪闪发亮; buds covered the branches=枝头长满了嫩芽"
    ),
    "summer": (
        "the sun burned on the roofs=烈日晒着屋顶; the cicadas sang without a pause=知了叫个不停; a thunderstorm was coming=雷雨就要来了; the road was white with dust=路上满是白花花的尘土; "
        "not a leaf moved=树叶一动也不动; the nights were short and warm=夜晚又短又热; the river was low=河水很浅; frogs called from the pond=池塘里蛙声一片"
    ),
    "autumn": (
        "the leaves were turning yellow=树叶渐渐黄了; a cool wind swept the streets=凉风扫过街道; the fields were golden=田野一片金黄; wild geese flew south=大雁往南飞; "
        "fog lay over the valley=山谷里起了雾; the sky was high and clear=天又高又蓝; apples lay in the grass=草地上落着苹果; the evenings came early=天黑得早了"
    ),
    "winter": (
        "snow lay on every roof=家家屋顶上都积着雪; the pond was frozen hard=池塘冻得结结实实; an icy wind was blowing=寒风呼呼地刮着; smoke rose from the chimneys=烟囱里冒着烟; "
        "frost covered the windows=窗上结满了霜; the paths were slippery=小路很滑; the stars looked close and cold=星星又近又冷; the town was very quiet=镇上静悄悄的"
    ),
}

WEEKDAYS = (
    "Monday=星期一; Tuesday=星期二; Wednesday=星期三; Thursday=星期四; Friday=星期五; Saturday=星期六; Sunday=星期日"
)
MONTHS = "January=一月; February=二月; March=三月; April=四月; May=五月; June=六月; July=七月; August=八月; September=九月; October=十月; November=十一月; December=十二月"
