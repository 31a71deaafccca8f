"""Foreign text that tries to be more than text: one corpus for the cleaner's tests and for the browser's.

Each case says what must be seen of it, which elements must not be there, and which must."""

# ruff: noqa: E501 - a case is read as one line
from __future__ import annotations

from dataclasses import dataclass

COLORED = (
    ".stMarkdownColoredText, .stMarkdownColoredBackground, .stMarkdownBadge, .stMarkdownShimmer"
)
ICONS = "img, [role=img], svg[id^=mermaid], [data-testid=stMermaidChart]"
NOTHING = f"{COLORED}, {ICONS}, .katex, .katex-error"


@dataclass(frozen=True, slots=True)
class Case:
    """A text, what is seen of it in an answer, and the selectors of what is absent and present."""

    name: str
    source: str
    shows: str
    present: str = ""
    has_formula: bool = False

    @property
    def absent(self) -> str:
        """What must not be drawn of it."""
        return f"{COLORED}, {ICONS}, .katex-error" if self.has_formula else NOTHING


CASES = (
    Case("colour", "a :red[x] b", "a :red[x] b"),
    Case("badge", ":green-badge[paid] done", ":green-badge[paid] done"),
    Case("small", ":small[tiny]", ":small[tiny]"),
    Case("shimmer", ":shimmer[x]", ":shimmer[x]"),
    Case("material", "see :material/home: now", "see :material/home: now"),
    Case("emoji code", "a :smile: b :+1: c", "a :smile: b :+1: c"),
    Case("address", "ping fe80::1234:a now", "ping fe80::1234:a now"),
    Case("logo", "x :streamlit: y", "x :streamlit: y"),
    Case("unknown directive", "time:foo[lost] end", "time:foo[lost] end"),
    Case("c++", "std::vector<int> v; a::b::c", "std::vector<int> v; a::b::c"),
    Case("leaf directive", "::note[lost]\n\nafter", "::note[lost]"),
    Case("container directive", ":::tip\ninside\n:::", ":::tip"),
    Case("yaml", "key:value other:thing", "key:value other:thing"),
    Case("ratio", "16:9 and 10:30am C:\\x", "16:9 and 10:30am C:\\x"),
    Case("arrows", "a -> b -- c <- d >= e", "a -> b -- c <- d >= e"),
    Case("dollars", "x$y$z and $5 and $10", "x$y$z and $5 and $10"),
    Case("shell", "echo $HOME/$USER then $PATH", "echo $HOME/$USER then $PATH"),
    Case("in a link", "[see :smile: here](https://example.invalid)", "see :smile: here", "a"),
    Case("in a heading", "## Use :red[x] :smile:", "Use :red[x] :smile:", "h2"),
    Case("in a list", "- a :red[x]\n- b :material/home:", "b :material/home:", "li"),
    Case("in a table", "| a | b |\n|---|---:|\n| :red[x] | $5 :smile: |", ":red[x]", "td"),
    Case("in a quote", "> :red[x] :smile:", ":red[x] :smile:", "blockquote"),
    Case("in bold", "**:red[x]** *:smile:*", ":red[x] :smile:", "strong"),
    Case("code span", "`:red[x] $a$ :smile: -> b`", ":red[x] $a$ :smile: -> b", "code"),
    Case("double ticks", "``a ` :red[b]`` c", "a ` :red[b]", "code"),
    Case("open tick", "a ` b :red[x]", "a ` b :red[x]"),
    Case(
        "fence",
        "```py\nx = ':red[a] $b$ :smile:' # a -> b\n```",
        "x = ':red[a] $b$ :smile:' # a -> b",
        "pre",
    ),
    Case("fence in list", "1. do\n   ```\n   :red[a] $x$\n   ```\n2. :red[b]", ":red[b]", "pre"),
    Case("fence in quote", "> ```\n> :red[a]\n> ```\n:red[b]", ":red[b]", "pre"),
    Case("fence left by list end", "- ```\n  code\nout :red[x]", "out :red[x]", "pre"),
    Case("fake fence in text", "text\n    ```\n:red[x]\n", ":red[x]"),
    Case("tilde fence", "~~~\n```\n:red[x]\n~~~\n:red[y]", ":red[y]", "pre"),
    Case("html", "<b>bold</b> <img src=x onerror=alert(1)> :red[x]", ":red[x]"),
    Case("table", "| a | b |\n|:--|--:|\n| 1 | 2 |", "1", "table"),
    Case("setext", "Title\n-----\ntext", "Title", "h2"),
    Case("rule", "a\n\n---\n\nb", "b", "hr"),
    Case("task list", "- [x] done\n- [ ] open", "done", "input"),
    Case(
        "bare link",
        "see https://example.invalid:8080/a:b?x=1 now",
        "https://example.invalid:8080/a:b?x=1",
        "a",
    ),
    Case("windows path", "C:\\users\\:red[x]", ":red[x]"),
    Case("emoji", "real 😀 👩\u200d👩\u200d👧 stays", "real 😀 👩\u200d👩\u200d👧 stays"),
    Case("nested brackets", ":red[a [b](c) :blue[d]]", ":blue[d]"),
    Case(
        "attributes",
        ":red[x]{foreground=red} :color[y]{foreground=red}",
        ":color[y]{foreground=red}",
    ),
    Case("escaped colon", "\\:red[x] and \\:smile:", ":red[x] and :smile:"),
    Case("footnote", "a[^1]\n\n[^1]: note :red[x]", "note :red[x]", "sup"),
    Case("picture", "![t](https://example.invalid/a.png)", "picture: t", "a"),
    Case(
        "picture by reference", "![t][r]\n\n[r]: https://example.invalid/a.png", "picture: t", "a"
    ),
    Case(
        "picture in a link",
        "[![t](https://example.invalid/a)](https://example.invalid/b)",
        "picture: t",
        "a",
    ),
    Case("picture behind an open tick", "`open ![x](https://example.invalid/a)", "picture: x"),
    Case(
        "picture after a fence in a list",
        "- ```\n  code\n![x](https://example.invalid/a)",
        "picture: x",
        "pre",
    ),
    Case(
        "picture after a fence in a quote",
        "> ```\n![x](https://example.invalid/a)",
        "picture: x",
        "pre",
    ),
    Case(
        "picture in a half fence", "```not a `fence`\n![x](https://example.invalid/a)", "picture: x"
    ),
    Case(
        "picture after markup of a page",
        "<pre>\n```\n</pre>\n![x](https://example.invalid/a) :red[y]",
        "![x]",
        "pre",
    ),
    Case(
        "picture after a lazy line",
        "- a\nlazy\n  ```\n:red[x] ![x](https://example.invalid/a)\n",
        ":red[x]",
        "pre",
    ),
    Case(
        "picture after a number in text",
        "text\n2. foo\n   ```\n:red[x]\n   ```\n:red[y]",
        ":red[y]",
        "pre",
    ),
    Case("picture behind a carriage return", "x\r![x](https://example.invalid/a)", "picture: x"),
    Case("a link that runs", "[x](javascript:alert(1)) [y](data:text/html,x)", "x"),
    Case(
        "bare link with signs",
        "see https://example.invalid/:smile:/x:red[y]/:material/home: now",
        "example.invalid/%3Asmile:/x%3Ared",
        "a",
    ),
    Case(
        "mermaid",
        "```mermaid\ngraph TD; A[<img src='https://example.invalid/m.png'>]-->B\n```",
        "graph TD; A[<img src='https://example.invalid/m.png'>]-->B",
        "pre",
    ),
    Case("mermaid in capitals", "~~~ MERMAID\ngraph TD; A-->B\n~~~", "graph TD; A-->B", "pre"),
    Case("mermaid by entity", "```m&#101;rmaid\ngraph TD; A-->B\n```", "graph TD; A-->B", "pre"),
    Case(
        "mermaid in disguise",
        "```-language-mermaid\ngraph TD; A-->B\n```",
        "graph TD; A-->B",
        "pre",
    ),
    Case(
        "mermaid with attributes", "```mermaid{a=b}\ngraph TD; A-->B\n```", "graph TD; A-->B", "pre"
    ),
    Case(
        "mermaid in a list",
        "1. x\n   ```mermaid\n   graph TD; A-->B\n   ```",
        "graph TD; A-->B",
        "pre",
    ),
    Case("mermaid in a quote", "> ```mermaid\n> graph TD; A-->B\n> ```", "graph TD; A-->B", "pre"),
    Case(
        "entities",
        "&#58;smile: &colon;red[x] a &#45;&gt; b &#58;material/home:",
        ":smile: :red[x] a -> b :material/home:",
    ),
    Case("entity and attributes", "&#58;{foreground=red}", ":{foreground=red}"),
    Case("hundred", "a:100:b", "a:100:b"),
    Case("more arrows", "**->** a <-> b *--* ~= <= x", "-> a <-> b -- ~= <= x", "strong"),
    Case("material in code", "see `:material/home:` here", ":material/home:", "code"),
    Case("backslashes in code", "`a\\$b \\* $x$`", "a\\$b \\* $x$", "code"),
    Case(
        "code that is moved in",
        "text\n\n    a:b = $x$ -> :red[y]\n\n    ![p](https://example.invalid/a)\n\nend",
        "a:b = $x$ -> :red[y]\n\n![p](https://example.invalid/a)",
        "pre",
    ),
    Case(
        "code moved in within a list",
        "- item\n\n      a:b = $x$ :red[y]\n- next",
        "a:b = $x$ :red[y]",
        "pre",
    ),
    Case(
        "signs in a fence",
        "```\n\\$ :color[x]{} &amp; **a** $$ -> <b> ::x\n```",
        "\\$ :color[x]{} &amp; **a** $$ -> <b> ::x",
        "pre",
    ),
    Case(
        "fence after text in a deep list",
        "- a\n    - b\n      c\n      ```py\n      x: int = 1  # $5\n      ```\n- d :red[x]",
        "x: int = 1  # $5",
        "pre",
    ),
    Case(
        "typescript",
        "Use `Map<string, number>` or Array<T>: a=>b, x >= 1",
        "Array<T>: a=>b, x >= 1",
        "code",
    ),
    Case(
        "money",
        "It costs $5, then $10 or US$3 and 4$ of $USD.",
        "It costs $5, then $10 or US$3 and 4$ of $USD.",
    ),
    Case(
        "money between",
        "$a and b$, $x and $y$z, $1,000-$2,000",
        "$a and b$, $x and $y$z, $1,000-$2,000",
    ),
    Case("an open formula", "$$\nx = 1\n\ntext :red[x] here", "text :red[x] here"),
    Case(
        "a formula that moves",
        "$\\rule{999em}{999em}$ and $$\\kern-99em x$$",
        "\\rule{999em}{999em}",
    ),
    Case("a deep formula", "$" + "{" * 190 + "}" * 190 + "$ end", "end"),
    Case(
        "math inline", "so $W = \\frac{\\rho}{1-\\rho}$ holds", "holds", ".katex", has_formula=True
    ),
    Case("math letter", "for $n$ items in $O(n)$ time", "items", ".katex", has_formula=True),
    Case("math block", "Then\n$$\nE = mc^2\n$$\nholds.", "holds.", ".katex", has_formula=True),
    Case("math in one line", "$$E = mc^2$$", "", ".katex", has_formula=True),
    Case("math brackets", "\\(a^2\\) and \\[b^2\\]", "and", ".katex", has_formula=True),
    Case(
        "math bracket block",
        "So\n\\[\na^2 + b^2\n= c^2\n\\]\nend :red[x]",
        "end :red[x]",
        ".katex",
        has_formula=True,
    ),
    Case(
        "math half block",
        "$$ a^2\n+ b^2 $$\nend :red[x]",
        "end :red[x]",
        ".katex",
        has_formula=True,
    ),
    Case(
        "math in a list", "1. so\n   $$\n   x^2\n   $$\n2. end", "end", ".katex", has_formula=True
    ),
    Case(
        "ordinary",
        "# Title\n\n**Bold**, *slanted*, ~~gone~~ and [a link](https://example.invalid/x:1).\n\n> quoted\n\n1. one\n2. two\n   - inner",
        "Bold, slanted, gone and a link.",
        "h1, strong, em, del, blockquote, ol, ul",
    ),
    Case("nested quotes", ">" * 3000 + " deep end", "deep end"),
    Case("nested spaced quotes", "> " * 3000 + "deep end", "deep end"),
    Case("nested lists", "- " * 3000 + "deep end", "deep end"),
    Case("nested numbers", "1. " * 1000 + "deep end", "deep end"),
    Case(
        "lists by indentation",
        "\n".join("  " * n + "- x" for n in range(400)) + "\n\ndeep end",
        "deep end",
    ),
    Case("quotes and lists", "> - 1. " * 500 + "deep end", "deep end"),
    Case("nested brackets in thousands", "[" * 3000 + "x" + "]" * 3000 + " deep end", "deep end"),
    Case(
        "nested links", "[a" * 1000 + "](https://example.invalid)" * 1000 + " deep end", "deep end"
    ),
    Case(
        "nested pictures",
        "![a" * 1000 + "](https://example.invalid)" * 1000 + " deep end",
        "deep end",
    ),
    Case("nested emphasis", "*a **b " * 1500 + "c** d*" * 1500 + " deep end", "deep end"),
    Case("stars in thousands", "*" * 3000 + "x" + "*" * 3000 + " deep end", "deep end"),
    Case("emphasis over lines", "2) *a\n" * 1500 + "b*\n" * 1500 + "deep end", "deep end"),
    Case("strikes", "~a ~~b " * 1000 + "c~~ d~" * 1000 + " deep end", "deep end"),
    Case("nested directives", ":red[" * 1000 + "x" + "]" * 1000 + " deep end", "deep end"),
    Case(
        "nested containers",
        "".join(":" * n + "a\n" for n in range(300, 3, -1)) + "\ndeep end",
        "deep end",
    ),
    Case("dollars in thousands", "$$" * 3000 + " deep end", "deep end"),
    Case(
        "a wide table",
        "|a" * 300 + "|\n" + "|-" * 300 + "|\n" + "|:red[x]" * 300 + "|\n\ndeep end",
        "deep end",
        "table",
    ),
)
