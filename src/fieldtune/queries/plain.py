"""The field's words in everyday ones: who asks says "landlord" and "房东" where the text says "lessor" and 出租人."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fieldtune.queries.wording import Language

_ENGLISH = """
lessor: landlord; lessee: tenant; lessees: tenants; remuneration: pay; terminate: end; terminates: ends; commence:
start; commences: starts; vendor: seller; purchaser: buyer; vehicle: car; vehicles: cars; dwelling: home; residence:
home; spouse: husband or wife; minor child: child; deceased: person who died; notwithstanding: despite; prior to:
before; subsequent to: after; in the event of: if there is; pursuant to: under; in respect of: for; indemnify: pay
back; indemnity: compensation; obligated: required; employment contract: job contract; physician: doctor; physicians:
doctors; hypertension: high blood pressure; hypotension: low blood pressure; myocardial infarction: heart attack;
cardiac arrest: heart stopping; cerebrovascular accident: stroke; renal: kidney; hepatic: liver; pulmonary: lung;
dermatitis: skin rash; pruritus: itching; dyspnea: shortness of breath; pyrexia: fever; edema: swelling; fracture:
broken bone; carcinoma: cancer; malignant neoplasm: cancer; neoplasm: tumor; alopecia: hair loss; emesis: vomiting;
myopia: nearsightedness; varicella: chickenpox; rubeola: measles; analgesic: painkiller; analgesics: painkillers;
anticoagulant: blood thinner; anticoagulants: blood thinners; adverse effects: side effects; adverse reactions: side
effects; administered: given; contraindicated: not allowed; otitis media: ear infection; rhinitis: runny nose;
gastroenteritis: stomach flu; hyperlipidemia: high cholesterol; net income: profit; expenditure: spending;
expenditures: spending; dividends: payouts
"""
_CHINESE = """
用人单位:公司;劳动者:员工;劳动报酬:工资;出租人:房东;承租人:租客;出卖人:卖家;买受人:买家;经营者:商家;
保险人:保险公司;投保人:买保险的人;债务人:欠钱的人;债权人:债主;借款人:借钱的人;贷款人:出借人;赡养人:子女;
被继承人:去世的人;配偶:老公或者老婆;未成年人:孩子;监护人:家长;物业服务人:物业;物业服务企业:物业公司;
医疗机构:医院;医务人员:医生;患者:病人;公安机关:公安局;人民法院:法院;人民检察院:检察院;机动车:汽车;
非机动车:电动车;道路交通事故:车祸;交通事故:车祸;驾驶人:司机;房屋:房子;租金:房租;建筑物:楼房;
不动产:房产;居民身份证:身份证;解除劳动合同:辞退;订立合同:签合同;解除合同:退掉合同;订立:签;缴纳:交;
支付:付;给付:给;偿还:还;返还:退还;隐匿:藏匿;伪造:假造;窃取:偷;盗窃:偷;骗取:骗;殴打:打;辱骂:骂;
死亡:去世;伤残:受伤残疾;受到损害:受了损失;损毁:弄坏;毁损:弄坏;遗失:弄丢;赔偿损失:赔钱;
承担民事责任:赔钱;自然人:个人;亲属:家人;近亲属:家人;夫妻共同财产:夫妻的共同财产;擅自:私自;
未经许可:没经过允许;未经批准:没经过批准;未经同意:没经过同意;从事:做;逾期:超期;明知:明明知道;致使:导致;
严禁:禁止;携带:带;饲养:养;食用:吃;购买:买;出售:卖;聘用:雇;辞职:辞职;休假:放假;探亲:回家探亲;
年休假:年假;高血压:血压高;糖尿病患者:有糖尿病的人;发热:发烧;呕吐:吐;腹泻:拉肚子;腹痛:肚子疼;头痛:头疼;
皮疹:起疹子;瘙痒:发痒;失眠:睡不着;妊娠:怀孕;哺乳期:喂奶期间;给药:用药;营业收入:收入;净利润:利润;
同比:跟上一年比
"""


def _table(text: str, between: str) -> Mapping[str, str]:
    pairs = (pair.split(":", 1) for pair in re.sub(r"\s*\n\s*", between, text.strip()).split(";") if pair.strip())
    found = {word.strip(): plain.strip() for word, plain in pairs}
    return {word: plain for word, plain in found.items() if word != plain}


_WORDS = {"en": _table(_ENGLISH, " "), "zh": _table(_CHINESE, "")}
# Longer words first: 道路交通事故 before 交通事故.
_FIND = {
    "en": re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, _WORDS['en']), key=len, reverse=True))})\b", re.I),
    "zh": re.compile(
        "(?<!被)(?:" + "|".join(sorted(map(re.escape, _WORDS["zh"]), key=len, reverse=True)) + ")(?![罪员税、])"
    ),
}


def plainly(text: str, language: Language) -> str:
    """The text with the field's words replaced by everyday ones; unchanged where it has none, or in other languages."""
    if language == "other":
        return text
    words = _WORDS[language]
    return _FIND[language].sub(lambda found: words.get(found[0]) or words[found[0].lower()], text)
