"""Surnames and given names that are common enough to tell a name in a form from other entries."""

from __future__ import annotations

SURNAMES = (
    *"王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷"
    "龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤康易乔赖文施洪季柯庄辛管祝左涂谷时舒耿牟卜路詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位霍翁隋甘景薄单包司柏宁",
    "欧阳",
    "上官",
    "司马",
    "诸葛",
    "司徒",
    "夏侯",
    "皇甫",
    "尉迟",
    "公孙",
    "慕容",
    "令狐",
    "东方",
)
"""The most common surnames of mainland China, and those of two characters."""
TRADITIONAL = (*"張劉陳楊黃趙吳孫馬羅鄭謝許韓馮蕭葉呂盧蔣餘鄧蘇賈鍾譚陸範鄒龍萬錢湯嚴賴", "歐陽")
"""The same in traditional characters, where they differ."""

GIVEN_EN = frozenset(
    # ruff: noqa: SIM905 (a list of words)
    """Aaron Abigail Adam Alan Albert Alex Alexander Alexis Alice Amanda Amber Amy Andrea Andrew Angela Ann Anna Anne
    Anthony Ashley Austin Barbara Benjamin Betty Beverly Brandon Brenda Brian Bruce Bryan Carl Carol Caroline Carolyn
    Catherine Charles Charlotte Cheryl Christian Christina Christine Christopher Cynthia Daniel Danielle David Deborah
    Debra Denise Dennis Diana Diane Donald Donna Doris Dorothy Douglas Dylan Edward Elizabeth Emily Emma Eric Ethan
    Eugene Evelyn Frances Frank Gabriel Gary George Gerald Gloria Grace Gregory Hannah Harold Harry Heather Helen Henry
    Isabella Jack Jacob Jacqueline James Jane Janet Janice Jason Jean Jeffrey Jennifer Jeremy Jerry Jesse Jessica Joan
    Joe John Jonathan Jordan Jose Joseph Joshua Joyce Juan Judith Judy Julia Julie Justin Karen Katherine Kathleen
    Kathryn Kayla Keith Kelly Kenneth Kevin Kimberly Kyle Larry Laura Lauren Lawrence Linda Lisa Logan Louis Madison
    Margaret Maria Marie Marilyn Mark Martha Mary Matthew Megan Melissa Michael Michelle Mildred Nancy Natalie Nathan
    Nicholas Nicole Noah Olivia Oliver Pamela Patricia Patrick Paul Peter Philip Rachel Ralph Randy Raymond Rebecca
    Richard Robert Roger Ronald Rose Roy Russell Ruth Ryan Samantha Samuel Sandra Sara Sarah Scott Sean Sharon Shirley
    Sophia Stephanie Stephen Steven Susan Teresa Terry Theresa Thomas Timothy Tyler Victoria Vincent Virginia Walter
    Wayne William Willie Zachary""".split()
)
"""Given names that are common in English."""
