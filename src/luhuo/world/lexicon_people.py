"""People: inventories from which names are composed, and what people are, do and feel, in both languages."""

# ruff: noqa: E501 (a row of text in two languages stays on one line)
from __future__ import annotations

SURNAMES = (
    "Lin 林 Wang 王 Zhang 张 Chen 陈 Liu 刘 Zhao 赵 Zhou 周 Wu 吴 Xu 徐 Sun 孙 Ma 马 Zhu 朱 Hu 胡 Guo 郭 He 何 Gao 高 Luo 罗 Zheng 郑 Liang 梁 "
    "Xie 谢 Song 宋 Tang 唐 Han 韩 Feng 冯 Deng 邓 Cao 曹 Peng 彭 Zeng 曾 Xiao 肖 Tian 田 Dong 董 Pan 潘 Yuan 袁 Cai 蔡 Jiang 江 Yu 余 Du 杜 "
    "Ye 叶 Cheng 程 Wei 魏 Su 苏 Lu 陆 Ding 丁 Ren 任 Shen 沈 Yao 姚 Zhong 钟 Cui 崔 Tan 谭 Fan 范 Jin 金 Shi 石 Liao 廖 Jia 贾 Xia 夏 Fu 付 "
    "Fang 方 Zou 邹 Bai 白 Meng 孟 Qin 秦 Qiu 邱 Hou 侯 Yin 尹 Xue 薛 Yan 严 Lei 雷 Long 龙 Tao 陶 Shao 邵 Mo 莫 Kong 孔 Ou 欧 Wen 温 Mu 穆"
)

GIVEN = {
    "f": (
        "Qiao 巧 Mei 梅 Lan 兰 Yun 云 Xue 雪 Ting 婷 Hui 慧 Li 莉 Na 娜 Jing 静 Ling 玲 Yue 月 Qing 晴 Rong 蓉 Xia 霞 Ying 英 Zhen 珍 Fen 芬 "
        "Juan 娟 Lian 莲 Ning 宁 Shu 淑 Wan 婉 Xin 欣 Yan 燕 Qin 琴 Hong 虹 Die 蝶 Ruo 若 Shan 珊 Dai 黛 Man 曼 Ju 菊 Xiang 香 Jia 佳 Man 蔓"
    ),
    "m": (
        "Gang 刚 Qiang 强 Bo 博 Hao 浩 Jun 军 Lei 磊 Peng 鹏 Tao 涛 Bin 斌 Chao 超 Dong 东 Feng 峰 Guo 国 Hai 海 Jian 建 Kai 凯 Liang 亮 Ming 明 "
        "Ping 平 Rui 锐 Sheng 胜 Tian 天 Wei 伟 Xiong 雄 Yong 勇 Zhi 志 Cheng 诚 De 德 Fu 福 Gen 根 Heng 恒 Kun 坤 Lin 林 Mu 木 Nan 南 Song 松"
    ),
}

FOREIGN_GIVEN = {
    "f": (
        "Mira 米拉 Anna 安娜 Clara 克拉拉 Nora 诺拉 Elsa 埃尔莎 Rosa 罗莎 Lena 莱娜 Tessa 泰莎 Dina 迪娜 Maya 玛雅 Vera 薇拉 Ida 艾达 Sonia 索尼娅 "
        "Edith 伊迪丝 Greta 格蕾塔 Olga 奥尔加 Petra 佩特拉 Wanda 旺达 Amelie 阿梅莉 Bella 贝拉"
    ),
    "m": (
        "Tom 汤姆 Oskar 奥斯卡 Ivan 伊万 Hugo 雨果 Felix 费利克斯 Anton 安东 Bruno 布鲁诺 Karl 卡尔 Leo 利奥 Max 马克斯 Otto 奥托 Paul 保罗 Simon 西蒙 "
        "Viktor 维克托 Emil 埃米尔 Jonas 约纳斯 Rufus 鲁弗斯 Nils 尼尔斯 Adam 亚当 Boris 鲍里斯"
    ),
}
FOREIGN_HEAD = "Tol 托尔 Ber 伯 Har 哈 Mar 马尔 Fen 芬 Kor 科 Sol 索尔 Dal 达尔 Win 温 Lam 兰 Ros 罗斯 Gal 加尔 Ket 凯特 Bram 布兰 Vol 沃尔 Ash 阿什 Pel 佩尔 Cor 科尔"
FOREIGN_TAIL = "ven 文 ton 顿 ley 利 man 曼 ford 福德 berg 贝里 well 韦尔 dell 德尔 sen 森 mont 蒙特 wick 威克 stone 斯通 rick 里克 low 洛 by 比"

JOBS = (
    "teacher=老师; baker=面包师; carpenter=木匠; doctor=医生; nurse=护士; farmer=农民; fisher=渔民; tailor=裁缝; blacksmith=铁匠; painter=画家; potter=陶匠; "
    "shopkeeper=店主; postman=邮递员; librarian=图书管理员; cook=厨师; gardener=园丁; miller=磨坊主; shepherd=牧羊人; weaver=织工; bookseller=书商; barber=理发师; "
    "musician=乐师; dancer=舞蹈演员; singer=歌手; sailor=水手; driver=司机; engineer=工程师; builder=建筑工; mason=石匠; plumber=水管工; electrician=电工; mechanic=修理工; "
    "clerk=职员; lawyer=律师; judge=法官; journalist=记者; photographer=摄影师; translator=翻译; writer=作家; poet=诗人; actor=演员; vet=兽医; chemist=药剂师; dentist=牙医; "
    "beekeeper=养蜂人; forester=护林员; guard=守卫; firefighter=消防员; ferryman=摆渡人; innkeeper=客栈老板; jeweller=珠宝匠; shoemaker=鞋匠; clockmaker=钟表匠; glassblower=玻璃匠; "
    "printer=印刷工; porter=搬运工; astronomer=天文学家; geologist=地质学家; botanist=植物学家; historian=历史学家; mapmaker=制图师; pilot=飞行员; conductor=列车员; cleaner=清洁工; "
    "waiter=服务员; accountant=会计; architect=建筑师; brewer=酿酒师; butcher=肉贩; candlemaker=制烛匠; hunter=猎人; tea merchant=茶商; rope maker=制绳匠; lamplighter=点灯人"
)

HOBBIES = (
    "fishing=钓鱼; painting=画画; singing=唱歌; dancing=跳舞; reading=看书; cooking=做饭; gardening=种花; swimming=游泳; skating=滑冰; hiking=爬山; chess=下棋; running=跑步; "
    "knitting=织毛衣; photography=摄影; calligraphy=书法; pottery=做陶器; cycling=骑车; stargazing=看星星; birdwatching=观鸟; kite flying=放风筝; storytelling=讲故事; "
    "paper cutting=剪纸; archery=射箭; rowing=划船; baking=烘焙; stamp collecting=集邮; wood carving=木雕; table tennis=打乒乓球; football=踢足球; basketball=打篮球; tea tasting=品茶; "
    "riddles=猜谜语; writing poems=写诗; embroidery=刺绣; woodworking=做木工; mushroom picking=采蘑菇; playing the flute=吹笛子; playing the violin=拉小提琴"
)

TRAITS = (
    "kind=善良; brave=勇敢; patient=有耐心; honest=诚实; clever=聪明; shy=腼腆; cheerful=开朗; careful=细心; stubborn=固执; generous=大方; quiet=安静; curious=好奇心强; lazy=懒散; "
    "hard-working=勤劳; polite=有礼貌; forgetful=健忘; proud=骄傲; gentle=温和; funny=风趣; serious=严肃; thrifty=节俭; talkative=健谈; modest=谦虚; bold=大胆; thoughtful=体贴; "
    "strict=严格; humble=朴实; restless=坐不住; dreamy=爱幻想; warm-hearted=热心; reliable=可靠; impatient=急躁; easy-going=随和; sharp-eyed=眼尖; orderly=爱整洁"
)

FEELINGS = {
    "good": (
        "happy=高兴; proud=自豪; relieved=松了一口气; grateful=感激; calm=平静; excited=兴奋; hopeful=充满希望; pleased=满意; cheerful=愉快; content=心满意足; amused=觉得好笑; "
        "moved=感动; delighted=又惊又喜; confident=有信心; warm inside=心里暖暖的; lighter=轻松了许多"
    ),
    "bad": (
        "sad=难过; angry=生气; worried=担心; tired=疲倦; lonely=孤单; afraid=害怕; ashamed=惭愧; nervous=紧张; disappointed=失望; jealous=嫉妒; embarrassed=尴尬; confused=困惑; "
        "sorry=后悔; upset=难受; restless=坐立不安; homesick=想家; annoyed=心烦; helpless=无助"
    ),
}

KIN = (
    "mother=母亲=f=parent; father=父亲=m=parent; daughter=女儿=f=child; son=儿子=m=child; wife=妻子=f=spouse; husband=丈夫=m=spouse; "
    "sister=姐妹=f=sibling; brother=兄弟=m=sibling; grandmother=祖母=f=grandparent; grandfather=祖父=m=grandparent; aunt=姑姑=f=aunt; uncle=叔叔=m=uncle"
)

SUBJECTS = (
    "mathematics=数学; history=历史; geography=地理; music=音乐; drawing=美术; science=科学; reading=语文; biology=生物; chemistry=化学; physics=物理; handicraft=手工; gymnastics=体操; "
    "astronomy=天文; grammar=语法; spelling=拼写; calligraphy=书法"
)
