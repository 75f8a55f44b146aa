"""What the page says, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Words:
    """Every sentence of the page; {…} are filled in by the templates."""

    other: str
    """The other language, in its own words."""
    search: str
    ask: str
    compare: str
    labels: str
    report: str
    sign_out: str
    skip: str
    placeholder: str
    placeholder_ask: str
    query: str
    go: str
    go_ask: str
    go_compare: str
    mode: str
    mode_auto: str
    mode_dense: str
    mode_words: str
    mode_hybrid: str
    mode_sparse: str
    mode_dense_sparse: str
    mode_multi: str
    mode_m3: str
    mode_m3_words: str
    rerank: str
    filters: str
    any: str
    yes: str
    no: str
    from_: str
    to: str
    contains: str
    clear: str
    results: str
    results_first: str
    result: str
    none: str
    none_hint: str
    weak: str
    more: str
    took: str
    page: str
    why: str
    why_meaning: str
    why_words: str
    why_sparse: str
    why_multi: str
    why_rerank: str
    why_rank: str
    why_shared: str
    why_none: str
    intro: str
    intro_ask: str
    intro_compare: str
    examples: str
    in_context: str
    earlier: str
    later: str
    back: str
    this_passage: str
    details: str
    answer: str
    passages_of: str
    unsupported: str
    thinking: str
    writing: str
    show_answer: str
    base: str
    tuned: str
    up: str
    down: str
    same: str
    new: str
    gone: str
    right_one: str
    first_right: str
    not_in_first: str
    changed: str
    unchanged: str
    whole_test: str
    first_share: str
    first_share_of: str
    interval: str
    dense_note: str
    right: str
    wrong: str
    your_name: str
    is_it_right: str
    saved: str
    labels_intro: str
    labels_counts: str
    labels_none: str
    labels_train: str
    labels_test: str
    labels_measure: str
    by: str
    when: str
    said: str
    passage: str
    key: str
    key_wrong: str
    key_hint: str
    enter: str
    problem: str
    busy: str
    offline: str
    keys_hint: str
    keys_label: str

    def mode_name(self, mode: str) -> str:
        """How a search mode is called."""
        return str(getattr(self, f"mode_{mode.replace('-', '_')}"))


EN = Words(
    other="中文",
    search="Search",
    ask="Ask",
    compare="Before and after",
    labels="Labels",
    report="Report",
    sign_out="Sign out",
    skip="To the results",
    placeholder="Search the documents",
    placeholder_ask="Ask a question of the documents",
    query="What to look for",
    go="Search",
    go_ask="Ask",
    go_compare="Compare",
    mode="How",
    mode_auto="Automatic",
    mode_dense="By meaning",
    mode_words="By words",
    mode_hybrid="By both",
    mode_sparse="By learned words",
    mode_dense_sparse="By meaning and learned words",
    mode_multi="Word for word",
    mode_m3="By all three",
    mode_m3_words="By all three and words",
    rerank="Second reading",
    filters="Filters",
    any="any",
    yes="yes",
    no="no",
    from_="from",
    to="to",
    contains="contains",
    clear="Clear filters",
    results="{n} results",
    results_first="The first {n} results",
    result="1 result",
    none="Nothing found",
    none_hint="No passage meets these filters, or shares a word with what you typed.",
    weak="The best of these is less similar than right passages are: it may not be in these documents.",
    more="More results",
    took="{ms} ms",
    page="page {n}",
    why="Why this result",
    why_meaning="Meaning",
    why_words="Words",
    why_sparse="Learned words",
    why_multi="Word for word",
    why_rerank="Second reading",
    why_rank="rank {n}",
    why_shared="Shared words",
    why_none="none: it was found by its meaning",
    intro="{n} passages. Results come as you type.",
    intro_ask="Answers come from these documents alone, each sentence with the passage it stands on.",
    intro_compare="The same search before training and after it, side by side.",
    examples="Test questions, drawn by lot",
    in_context="In context",
    earlier="Earlier",
    later="Later",
    back="Back to the search",
    this_passage="The passage",
    details="Details",
    answer="Answer",
    passages_of="Passages",
    unsupported="not supported: {why}",
    thinking="Reading the passages …",
    writing="Being written; its citations are checked when it is whole.",
    show_answer="Show the answer",
    base="Before: base model",
    tuned="After: tuned model",
    up="up {n} from rank {m}",
    down="down {n} from rank {m}",
    same="same rank",
    new="not among the first {n} before",
    gone="no longer among the first {n}",
    right_one="right passage",
    first_right="The right passage",
    not_in_first="not in first {n}",
    changed="{n} of the first {m} were not among them before.",
    unchanged="The same passages are among the first {m}.",
    whole_test="Over all {n} test questions (nDCG@10)",
    first_share="Right passage first",
    first_share_of="{a} and then {b} of {n} questions",
    interval="difference {d}, 95% interval {low} to {high}",
    dense_note="One search proves nothing: what counts is all of them.",
    right="Right",
    wrong="Wrong",
    your_name="Your name",
    is_it_right="Does it answer?",
    saved="Saved.",
    labels_intro="Mark results right or wrong under each search. The next run can learn from it and be measured on it.",
    labels_counts="{q} queries, {r} passages right, {w} wrong",
    labels_none="Nothing is labelled yet.",
    labels_train="Train the next run on them (test questions of this run are left out)",
    labels_test="Or keep them as its test set",
    labels_measure="Measure this run's models again with the added judgements",
    by="By",
    when="When",
    said="Said",
    passage="Passage",
    key="API key",
    key_wrong="This key is not valid.",
    key_hint="The key that you were given for this service. It is not kept in your browser.",
    enter="Sign in",
    problem="That did not work",
    busy="The server could not answer ({status}). Try again in a moment.",
    offline="The server cannot be reached. Try again in a moment.",
    keys_hint="to search · to move · to open",
    keys_label="to mark right or wrong",
)
ZH = Words(
    other="English",
    search="搜索",
    ask="问答",
    compare="训练前后对比",
    labels="标注",
    report="报告",
    sign_out="退出",
    skip="跳到结果",
    placeholder="搜索文件",
    placeholder_ask="向这些文件提问",
    query="要找的内容",
    go="搜索",
    go_ask="提问",
    go_compare="对比",
    mode="方式",
    mode_auto="自动",
    mode_dense="按语义",
    mode_words="按词语",
    mode_hybrid="语义加词语",
    mode_sparse="按学到的词权重",
    mode_dense_sparse="语义加词权重",
    mode_multi="逐词对照",
    mode_m3="三者合一",
    mode_m3_words="三者加词语",
    rerank="二次精排",
    filters="筛选",
    any="不限",
    yes="是",
    no="否",
    from_="从",
    to="到",
    contains="包含",
    clear="清除筛选",
    results="{n} 条结果",
    results_first="前 {n} 条结果",
    result="1 条结果",
    none="没有找到",
    none_hint="没有段落符合这些筛选条件，或与输入的内容没有共同的词语。",
    weak="其中最好的一条，相似度也低于正确段落通常的水平：这些文件里可能没有答案。",
    more="更多结果",
    took="{ms} 毫秒",
    page="第 {n} 页",
    why="为什么是这一条",
    why_meaning="语义",
    why_words="词语",
    why_sparse="词权重",
    why_multi="逐词对照",
    why_rerank="二次精排",
    why_rank="第 {n} 位",
    why_shared="共同词语",
    why_none="无：按语义找到",
    intro="共 {n} 个段落。边输入边出结果。",
    intro_ask="答案只来自这些文件，每句话都注明所依据的段落。",
    intro_compare="同一次搜索，训练前与训练后并排对照。",
    examples="随机抽取的测试问题",
    in_context="上下文",
    earlier="前文",
    later="后文",
    back="返回搜索",
    this_passage="本段落",
    details="详细信息",
    answer="答案",
    passages_of="段落",
    unsupported="缺乏依据：{why}",
    thinking="正在阅读段落……",
    writing="正在撰写；完成后将核对引用。",
    show_answer="显示答案",
    base="训练前：基础模型",
    tuned="训练后：调优模型",
    up="上升 {n} 位，原为第 {m} 位",
    down="下降 {n} 位，原为第 {m} 位",
    same="名次不变",
    new="训练前不在前 {n} 位",
    gone="训练后不在前 {n} 位",
    right_one="正确段落",
    first_right="正确段落",
    not_in_first="不在前 {n} 位",
    changed="前 {m} 条中有 {n} 条，训练前不在其中。",
    unchanged="前 {m} 条是同样的段落。",
    whole_test="全部 {n} 个测试问题（nDCG@10）",
    first_share="正确段落排第一",
    first_share_of="{n} 个问题中，先有 {a} 个，后有 {b} 个",
    interval="差值 {d}，95% 区间 {low} 至 {high}",
    dense_note="单次搜索说明不了什么：要看全部测试问题。",
    right="正确",
    wrong="错误",
    your_name="您的姓名",
    is_it_right="是否回答了问题？",
    saved="已保存。",
    labels_intro="在每次搜索的结果下标出正确或错误。下一次训练可以用来学习，也可以用来评测。",
    labels_counts="{q} 个查询，{r} 个段落正确，{w} 个错误",
    labels_none="还没有标注。",
    labels_train="用于下一次训练（不含本次的测试问题）",
    labels_test="或留作下一次的测试集",
    labels_measure="用新增的判断重新评测本次的模型",
    by="标注人",
    when="时间",
    said="判断",
    passage="段落",
    key="API 密钥",
    key_wrong="密钥无效。",
    key_hint="使用本服务时发给您的密钥。浏览器不会保存它。",
    enter="登录",
    problem="没有成功",
    busy="服务器未能回答（{status}）。请稍后再试。",
    offline="无法连接服务器。请稍后再试。",
    keys_hint="搜索 · 移动 · 打开",
    keys_label="标为正确或错误",
)
CATALOGUE: dict[Language, Words] = {"en": EN, "zh": ZH}


def language_of(chosen: str, kept: str, accepted: str) -> Language:
    """The interface's language: as just chosen, as kept in a cookie, or the first that Accept-Language names."""
    for given in (chosen, kept):
        if given in CATALOGUE:
            return "zh" if given == "zh" else "en"
    weights = []
    for place, part in enumerate(accepted.lower().split(",")[:20]):
        tag, _, weight = part.strip().partition(";q=")
        try:
            weights.append((-float(weight or 1), place, tag.split("-")[0].strip()))
        except ValueError:
            continue
    first = next((tag for _, _, tag in sorted(weights) if tag in CATALOGUE), "en")
    return "zh" if first == "zh" else "en"
