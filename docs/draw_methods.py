"""The pictures of docs/methods.md: python docs/draw_methods.py. A box of a network is one pass, so one BatchNorm batch.

A panel is "# title: note", then its boxes, "name kind[:x,width] lane[-last lane] [text]; …" (| breaks a line; STUDENT:
no gradient), then "> a-b-c@lane [text]; …": arrows in a lane, or "a-b@lane>lane" to another; ~ is without gradient.
"""

import re
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

WIDTH, LANE, HEIGHT, UNIT = 104, 5.6, 4.2, 0.075  # of a picture; from lane to lane; of a box; inches of a unit
DASHES, INK, GREY = (0, (3, 2)), "#222222", "#888888"
KINDS = {  # fill, edge (of the Okabe-Ito palette, darkened), usual x and width
    "images": ("#e8e8e8", "#555555", "6,9"),
    "input": ("#cfe6f5", "#0072B2", "21,13"),
    "student": ("#fde2b3", "#C77C00", "40,14"),
    "teacher": ("#bfe5d8", "#007A5A", "40,14"),
    "operation": ("#ffffff", "#222222", "62,20"),
    "target": ("#ffffff", "#555555", "62,22"),
    "loss": ("#f6cfe0", "#B0417F", "90,24"),
}
X, U, CE = "x input 0 x weak; ", "u input 1 u weak; ", "ce loss 0 cross-entropy with y; "


def box(ax, top, used, kind, lanes, text=""):
    kind, _, place = kind.partition(":")
    line, kind = DASHES if kind.isupper() or kind in ("teacher", "target") else "-", kind.lower()
    fill, edge, usual = KINDS[kind]
    x, width = map(float, (place or usual).split(","))
    first, last = (top + float(lane) * LANE for lane in (lanes.split("-") * 2)[:2])
    style, corner = {"boxstyle": "round,pad=0,rounding_size=.8", "lw": 1.1}, (x - width / 2, first - HEIGHT / 2)
    ax.add_patch(FancyBboxPatch(corner, width, last - first + HEIGHT, fc=fill, ec=edge, ls=line, **style))
    used[kind] = Patch(fc=fill, ec=edge, ls=DASHES if kind == "target" else "-")
    text = (text or {"images": "images|x, u"}.get(kind, kind)).replace("|", "\n")
    ax.text(x, (first + last) / 2, text, fontsize=7.2, ha="center", va="center", linespacing=1.15)
    return kind, x - width / 2, x + width / 2, last + HEIGHT / 2


def arrow(ax, a, b, y, to, text, still):
    """Upright where the boxes are above each other; grey where it only brings images."""
    upright = b[1] < a[2]
    start, end = ((max(a[1], b[1]) + min(a[2], b[2])) / 2,) * 2 if upright else (a[2], b[1])
    color, line = GREY if a[0] in ("images", "input") and not still else INK, DASHES if still else "-"
    style = {"arrowstyle": "-|>", "lw": 1.1, "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (end, to), (start, y), arrowprops=style | {"color": color, "ls": line})
    place = {"ha": "left", "va": "center"} if upright else {"ha": "center", "va": "bottom"}
    ax.text((start + end) / 2 + 0.8 * upright, (y + to) / 2 - 0.4 * (not upright), text, fontsize=6.8, **place)


def picture(name, panels):
    (figure, ax), bottom, used = plt.subplots(dpi=130), 0, {}
    for panel in panels.split("#")[1:]:
        (heading, *lines), boxes, top = panel.strip().split("\n"), {}, bottom + 5 + HEIGHT / 2
        title, note = heading.split(": ", 1)
        ax.axhline(bottom, color="#bbbbbb", lw=0.8 if bottom else 0)
        ax.text(1, bottom + 3.1, title, fontsize=8.5, weight="bold")
        ax.text(WIDTH - 1, bottom + 3.1, note, fontsize=7, style="italic", ha="right")
        for key, *rest in (each.strip().split(" ", 3) for each in "; ".join(lines[:-1]).split(";") if each.strip()):
            boxes[key] = box(ax, top, used, *rest)
        for each in lines[-1].strip(" >").split("; "):
            path, y, to, text = re.fullmatch(r"(\S+)@([\d.]+)>?([\d.]*) ?(.*)", each).groups()
            names, ends = re.split("([-~])", path), [top + float(lane) * LANE for lane in (y, to or y)]
            for a, line, b in zip(names[::2], names[1::2], names[2::2], strict=False):
                arrow(ax, boxes[a], boxes[b], *ends, text, line == "~")
        bottom = max(low for *_, low in boxes.values()) + 1.6
    figure.set_size_inches(WIDTH * UNIT, (bottom + 4) * UNIT)
    ax.set_axis_off()
    ax.set(xlim=(0, WIDTH), ylim=(bottom + 4, 0), position=(0, 0, 1, 1))
    lines = {"brings images": (GREY, "-"), "gradient flows back": (INK, "-"), "no gradient": (INK, DASHES)}
    keys = {k: used[k] for k in KINDS if k in used} | {k: Line2D([], [], color=c, ls=s) for k, (c, s) in lines.items()}
    style = {"loc": "lower center", "ncol": 10, "fontsize": 7, "frameon": False, "handlelength": 1.8, "borderpad": 0}
    ax.legend(keys.values(), keys, **style, columnspacing=1.0)
    figure.savefig(Path(__file__).with_name(f"methods_{name}.png"))


def consistency():
    three = f"i images 0-2.5; {X + U}v input 2.5 x′, u′ weak; {CE}"
    one, both = f"{three}S student 0-1; ", "i-x-S-ce@0; i-u-S@1; S-d@1 f(x), f(u); "
    teacher, squared = "i-v-T@2.5; S~T@1.38>2.12", "d loss 1-2.5 squared difference|of"
    return f"""# mean_teacher: two views, two networks
        {one}T teacher 2.5; {squared} f and f′
        > {both}{teacher} weights averaged after each step; T~d@2.5 f′(x′), f′(u′)
    # mean_teacher_dual: the second head follows the teacher's class head
        {three}S student:40,11 0-1; T teacher:40,11 2.5; c student:59,13 0 class head c; s student:59,13 1 second head s
        k teacher:59,13 2.5 class head c′; n loss 1 (c − s)² of the logits; d loss 2.5 squared difference|of s and c′
        > i-x-S-c-ce@0; i-u-S-s-n@1; c-n@0.2>0.8; s-d@1.2>2.2; {teacher} averaged; T~k~d@2.5
    # pi_model: same weights, two passes; gradient=one: the second is a target
        {one}P student 2.5; {squared} both passes
        > {both}i-v-P@2.5; P-d@2.5 f(x′), f(u′)
    # temporal_ensembling: one pass; the other side is remembered
        i images 0-1; {X + U + CE}S student 0-1; {squared} f and memory; m target:40,22 2.5 mean of past f,|by image
        > {both}S~m@1.38>2.12 f is added after the reading; m~d@2.5"""


def adversarial():
    return f"""# vat: same weights; toward the worst direction near u
        i images 0-1.2; {X + CE}u input 1.2 u weak; a input 2.6 u + r; h loss 1.2 entropy of f(u); S student 0
        C student 1.2; A student 2.6; kl loss 2.6 KL(f(u) ‖ f(u + r))
        r target:47,65 4.1 search for r: ε along the gradient of KL(f(u) ‖ f(u + ξd))|with respect to d, in float32
        > i-x-S-ce@0; i-u-C-h@1.2; C~kl@1.4>2.4 f(u); u-a@1.58>2.22; a-A@2.6; A-kl@2.6 f(u + r); r~a@3.72>2.98 r
    # cct: one pass; features are perturbed, not images
        i images 0-1; {X + U + CE}S student:40,12 0-1 student's|features; H student:61,12 0-1 its head
        P operation:37,27 2.6 features of u perturbed: noise,|drop, dropout, cutout, vat
        g student:63,16 2.6 a head of its own|for each; d loss 1-2.6 squared difference,|mean over heads
        > i-x-S-H-ce@0; i-u-S-H@1; H~d@1 f(u); S-P@1.38>2.22; P-g-d@2.6"""


def mixing():
    ce, mixed = "G STUDENT:37,11 2; ce loss:94,18 0 CE with mixed y", "all mixed|with a shuf-|fled copy"
    return f"""# ict: x with x, u with u
        i images 0-2.5; {X}u input 1-2.5 u weak; m input:38,12 0 x mixed; U input:38,12 1 u mixed; S student:56,12 0-1
        T teacher:56,12 2.5; q target:73,15 2.5 f′ mixed alike; {ce[19:]}; d loss:94,18 1-2.5 squared difference
        > i-x-m-S-ce@0; i-u-U-S-d@1; u-T@2.5; T~q~d@2.5; S~T@1.38>2.12 averaged
    # mixmatch: any image with any other; targets y, q, q mixed alike
        i images 0-2; {X}u input 1-2 u₁, u₂ weak; {ce}; q target:51,11 2 q: mean,|sharpened; M input:65,12 0-2 {mixed}
        S student:79,8 0-1; d loss:94,18 1-2 squared difference|to mixed q
        > i-x-M-S-ce@0; i-u-M-S-d@1; u-G@2; G~q~M~d@2
    # remixmatch: any image with any other; targets y, q, q, q mixed alike
        i images 0-5; x input 0 x strong; u input 1-2 u weak; s input 3-5 u strong,|2 views; {ce}; S student:79,8 0-5
        q target:51,11 2 q: aligned,|sharpened; M input:65,12 0-3 {mixed}; k loss:94,18 5 rotation head:|CE with k
        r input:51,15 5 turned by k · 90°; m loss:94,18 1-3 CE with mixed q; v loss:94,18 4 CE with q
        > i-x-M-S-ce@0; i-u-M-S-m@1; i-s-M-S-m@3; u-G@2; G~q~M@2; s-S@4 the first view, unmixed; s-r-S-k@5; S-v@4"""


def pseudo_labels():
    weighted = "w · cross-entropy|with argmax"
    return f"""# pseudo_label: one view judges and learns
        i images 0-1; {X + U + CE}S student 0-1; q target:53,24 2.3 argmax p, weight w(p); d loss 1-2.3 {weighted} p
        > i-x-S-ce@0; i-u-S-d@1; S~q@1.38>1.92; q~d@2.3
    # fixmatch, flexmatch, softmatch, freematch: they differ in the weight w
        i images 0-3; {X + CE}s input 1-2 u strong; u input 3 u weak; S student 0-3; q target 3 argmax q, weight w(q)
        f loss 1 freematch only:|fairness of classes; d loss 2-3 {weighted} q
        > i-x-S-ce@0; i-s@1.5; s-S-f@1; s-S-d@2; i-u-S@3; S~q~d@3; q~f@2.8>1.2
    # uda: a soft target, sharpened
        i images 0-2; {X}s input 1 u strong; u input 2 u weak; S student 0-2; ce loss 0 cross-entropy|of the images kept
        q target 2 softmax(z / T),|weight w(softmax z); d loss 1-2 w · cross-entropy|with softmax(z / T)
        > i-x-S-ce@0; i-s-S-d@1; i-u-S@2; S~q~d@2
    # adamatch: x alone, and x with u: two passes, same weights
        i images 0-3; x input 0-1 x weak,|x strong; s input 2 u strong; u input 3 u weak; A student 0
        S student 1-3; z operation 0-1 each logit drawn|between both; q target 3 q aligned, kept from|τ · mean max p(x)
        ce loss 0-1 cross-entropy with y; d loss 2-3 1[kept] · cross-entropy|with argmax q
        > i-x@0.5; x-A-z@0; x-S-z@1; z-ce@0.5; i-s-S-d@2; i-u-S@3; S~q~d@3; z~q@1.38>2.62"""


def fixmatch_variants():
    return f"""# dash: FixMatch with a threshold on the loss of the weak view, which falls
        i images 0-2; {X + CE}s input 1 u strong; u input 2 u weak; S student 0-2
        q target 2 softmax(z / T), then argmax,|kept where CE(z, q) ≤ ρ; d loss 1-2 1[kept] · cross-entropy|with q
        > i-x-S-ce@0; i-s-S-d@1; i-u-S@2; S~q~d@2
    # defixmatch: the unlabeled term of the labeled images is subtracted
        i images 0-5; x input 0 x weak; y input 1 x strong; s input 4 u strong; u input 5 u weak; S student 0-5
        ce loss 0-1 cross-entropy with y,|half for each view; p target 3 argmax, weight w|of x weak, without y
        b loss 2-3 minus w · cross-entropy|of x strong with argmax; q target 5 argmax q, weight w(q)
        d loss 4-5 w · cross-entropy|with argmax q
        > i-x-S-ce@0; i-y-S-ce@1; S-b@2 x strong; S~p~b@3; i-s-S-d@4; i-u-S@5; S~q~d@5
    # sequencematch: each view learns from the weaker ones
        i images 0-3; {X + CE}s input 1 u strong; m input 2 u medium; u input 3 u weak; S student 0-3
        q target 2-3 argmax of weak, weight w,|softmax(z / T) of weak|and medium
        d loss 1-3 w · cross-entropy|with argmax, KL weak to|medium, medium to strong,|weak to strong
        > i-x-S-ce@0; i-s-S-d@1; i-m-S@2; i-u-S@3; S~q~d@2.7; S-d@1.5
    # crmatch: the same class, other features
        i images 0-4; {X + CE}s input 1 u strong; u input 2 u weak; t input 4 u weak turned; S student 0-4
        q target 2 argmax q, weight w(q); d loss 1-2 w · cross-entropy|with argmax q
        P operation 3 feature maps of both,|projected; c loss 3 w · max(cosine, 0)
        R operation 4 rotation head; r loss 4 cross-entropy with k
        > i-x-S-ce@0; i-s-S-d@1; i-u-S@2; S~q~d@2; S-P-c@3; i-t-S-R-r@4"""


def memory_and_tutors():
    smoothed = "p, smoothed|by the bank"
    return f"""# simmatch: the bank knows labeled images; judge=ema: a teacher sees u weak and fills the bank
        i images 0-3; {X + CE}s input 1-2 u strong; u input 3 u weak; S student 0-3; q target 3-4.4 {smoothed}
        m target:38,20 4.4 bank: embeddings|and classes of x; d loss 1 w · cross-entropy|with smoothed p
        n loss 2-3 cross-entropy with u's|similarities to the bank
        > i-x-S-ce@0; i-s@1.5; s-S-d@1; s-S-n@2; i-u-S@3; S~q@3; q~n@3; q~d@2.8>1.2; S~m@3.38>4.02; m~q@4.4
    # comatch: the bank knows the last batches
        i images 0-4; {X + CE}s input 1-2 u strong; v input 3 u′ strong; u input 4 u weak; S student 0-4
        q target 4-5.4 {smoothed}; m target:38,20 5.4 bank: embeddings|and p of the past
        n loss 2-4 contrast of u and u′|with the graph p · p; d loss 1 w · cross-entropy|with smoothed p
        > i-x-S-ce@0; i-s@1.5; s-S-d@1; s-S-n@2; i-v-S-n@3; i-u-S@4; S~q@4; q~n@4; q~d@3.8>1.2; S~m@4.38>5.02; m~q@5.4
    # regmixmatch: freematch, and a second pass of mixed images
        i images 0-4.4; {X + CE}s input 1-2 u strong; u input 3 u weak; S student 0-3; q target 3 argmax q,|sure or not
        M input:38,18 4.4 u strong, pasted|into each other; P student:64,14 4.4; d loss 1-2 freematch's terms
        m loss 4.4 to mixed labels: sure CE,|others squared difference
        > i-x-S-ce@0; i-s@1.5; s-S-d@1; i-u-S@3; S~q@3; q~d@2.8>2.2; i-M-P-m@4.4; q~m@3.2>4.2
    # noisy_student: frozen copies of the student, replaced after each round
        i images 0-2.4; x input 0 x strong; {CE}s input 1 u strong; u input 2.4 u weak; S student 0-1
        T teacher 2.4 copies; q target 2.4 their mean q,|weight w(q); d loss 1-2.4 w · cross-entropy|with q
        > i-x-S-ce@0; i-s-S-d@1; i-u-T@2.4; T~q~d@2.4; S~T@1.38>2.02 at the ends of rounds
    # meta_pseudo_labels: the tutor learns what helps the student
        i images 0-3; s input 0-1 u strong; u input 2 u weak; x input 3 x weak; S student 0; T student 1-3 tutor
        d loss 0 cross-entropy|with the tutor's p; f loss 1 η · cross-entropy|with argmax p
        e loss 2 w · cross-entropy|of u strong and weak; ce loss 3 cross-entropy with y
        > i-s@0.5; s-S-d@0; s-T-f@1; i-u-T@2; T-e@2; i-x-T-ce@3; T~d@1.2>0.2; S~f@0.2>0.8"""


if __name__ == "__main__":
    for family in (consistency, adversarial, mixing, pseudo_labels, fixmatch_variants, memory_and_tutors):
        picture(family.__name__, family())
