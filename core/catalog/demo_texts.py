"""The texts of the demo provider, each under the words that ask for it. Data, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """A subject: the words that point to it (without a plural s) and its replies."""

    name: str
    words: frozenset[str]
    replies: tuple[str, ...]


def _topic(name: str, words: str, *replies: str) -> Topic:
    return Topic(name, frozenset(words.split()), tuple(reply.strip() for reply in replies))


GREETING = _topic(
    "a greeting",
    "hello hi hey hallo good morning evening thank welcome",
    """
Hello! I am the **demo model** that comes with Purser. I answer from a small script, without any
network, so you can try everything before you connect a real provider.

Ask me, for example:

- *What is Purser?*
- *What does a message cost?*
- *What happens when I press Stop?*
- *How do I connect OpenRouter?*
""",
    """
Good to have you aboard! I can explain how Purser works: **credits**, **holds**, **limits**, the
**API** and its **keys**.

Or try me out: write `echo: any text` and I send it back, or `[[long 300]]` and I talk long enough
for you to press **Stop**.
""",
)

FALLBACK = _topic(
    "something outside the script",
    "",
    """
I am a demonstration, so I have no real opinion on that. A real model would: once an administrator
sets an OpenRouter key, the same box answers with hundreds of models.

### What I can show you now

1. **Money.** This message was held, answered and settled like any paid one. Open **Usage** and
   find its line.
2. **Stopping.** Write `[[long 500]]` and press **Stop** half-way: only the words you got are paid.
3. **Trouble.** Write `[[error]]` or `[[cut]]` to see how a failing provider looks to you.
""",
    """
That lies beyond my small script. Here is what I know well:

| Ask about | and I explain |
|---|---|
| credits | how money gets in and where it goes |
| holds | why a message reserves money before it runs |
| limits | who may spend what, and when it resets |
| the API | how your own programs use the same wallet |

Everything around my answer is real: the stream, the tokens, the cost and the books.
""",
    """
I would love to help with that, but I am only the built-in demo.

> Connect a provider and ask again: the conversation stays, only the model changes.

Until then, try `echo: hello` for a short reply, or ask *how do holds work?* for a longer one.
""",
)

TOPICS = (
    _topic(
        "code",
        "code python example script function program javascript curl snippet json sdk",
        """
## Asking a model from Python

Purser speaks the OpenAI protocol, so the usual client works. Only the address and the key change:

```python
from openai import OpenAI

client = OpenAI(base_url="http://localhost:8501/v1", api_key="YOUR_PURSER_KEY")

answer = client.chat.completions.create(
    model="demo/purser",
    messages=[{"role": "user", "content": "What does a message cost?"}],
)
print(answer.choices[0].message.content)
print("cost in USD:", answer.usage.cost)
```

Two things to notice:

- the **cost** comes back inside `usage`, in both streamed and whole answers;
- the header `X-Purser-Call-Id` names the call, so you can find its line in **Usage**.
""",
        """
## The same from a shell

```bash
curl http://localhost:8501/v1/chat/completions \\
  -H "Authorization: Bearer $PURSER_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "demo/purser", "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'
```

Add an `Idempotency-Key` header when a script may repeat itself: the second call is refused with
the name of the first instead of being paid twice.
""",
    ),
    _topic(
        "holds",
        "hold reserve reserved reservation reserving settle settled settlement held capture",
        """
## How a hold works

Before a message reaches a provider, Purser sets aside what it could cost **at most**. When the
answer ends, the true cost is taken and the rest comes back.

1. **Hold**: prompt and longest possible answer, at today's price.
2. **Run**: the answer streams; nothing is charged yet.
3. **Settle**: the provider reports its cost; exactly that is captured.
4. **Release**: what was held too much is free again at once.

| step | posted | held | available |
|---|---:|---:|---:|
| before | $10.00 | $0.00 | $10.00 |
| while it runs | $10.00 | $0.05 | $9.95 |
| after | $9.99 | $0.00 | $9.99 |

That is why two people can never spend the same last cent.
""",
    ),
    _topic(
        "credits and the wallet",
        "credit wallet balance top buy purchase pay payment invoice refund money prepaid postpaid",
        """
## Credits

A credit is **one US dollar**, and Purser always shows it as money. Your team has one wallet:

- **posted** is what has been paid in and not been spent,
- **held** is set aside for messages that are running,
- **available** is the difference, and what the next message may use.

Credits come in **lots**: a purchase, a subscription, a gift from your administrator. A lot may
expire; the one that expires first is spent first. Every movement is a line in the ledger that
nobody can change afterwards. Finance can export all of it.
""",
        """
## Where the money goes

| Kind of team | Pays | Stops when |
|---|---|---|
| prepaid | from its wallet | the wallet is empty |
| postpaid | by invoice | its credit limit is reached |
| internal | nobody, costs are shown | a budget is used up |

In all three the books are the same: a hold before the call, the true cost after it. If an answer
costs more than was held, the difference is recorded as **debt** and paid by the next top-up first.
""",
    ),
    _topic(
        "costs",
        "cost price pricing expensive cheap token spend spending charge charged bill billing much",
        """
## What a message costs

A model reads and writes **tokens**, about four letters each. Each model has a price for tokens in
and a price for tokens out:

| Demo model | in, per million | out, per million |
|---|---:|---:|
| `demo/free-sailor` | free | free |
| `demo/purser` | $1.00 | $4.00 |
| `demo/admiral` | $3.00 | $15.00 |

So 500 tokens in and 200 out on `demo/purser` are

$$500 \\times 0.000001 + 200 \\times 0.000004 = 0.0013\\ \\text{USD}$$

**Three habits that save most:** start a new conversation for a new subject, choose a small model
for small work, and attach only the pages that matter.
""",
        """
## Every cent, accounted for

- The provider reports what an answer cost. That amount is taken, **exactly**; nothing is rounded
  per token.
- Where a provider reports nothing, the tokens are priced with the list price that was valid when
  you pressed Send.
- When an answer breaks off, an estimate is shown, and corrected as soon as the provider's own
  record is there.

Every answer carries its tokens, its model and its cost. **Usage** sums them up by day, person and
model.
""",
    ),
    _topic(
        "limits",
        "limit quota budget rate restrict restriction allowance cap exceeded reset",
        """
## Limits, from small to large

1. **Rates**: messages per minute, for you and for your team.
2. **Quota**: what your team may spend in a month.
3. **Budgets**: the same for one person or one API key.
4. **Models**: which ones your role may use.

When a limit says no, it says *which one*, how much of it is used and when it resets, and what
still works. For example, a person whose budget is used up can go on with a free model.

> Limits count what is **running** too, not only what is finished. Opening ten tabs does not help.
""",
    ),
    _topic(
        "API keys",
        "key apikey revoke revoked secret rotate",
        """
## API keys

Create one under **Account**. It is shown **once**; Purser stores only a fingerprint of it.

- Give each program a key of its own, with a **monthly budget** and an expiry date.
- Revoke a key and the next request with it is refused.
- Usage by key is a column in every report.

```bash
export PURSER_KEY="YOUR_PURSER_KEY"
curl http://localhost:8501/v1/models -H "Authorization: Bearer $PURSER_KEY"
```

Never paste a key into a chat: not here, and not anywhere else.
""",
    ),
    _topic(
        "the API",
        "api endpoint http rest openai integrate integration request",
        """
## The API

Whatever speaks to OpenAI can speak to Purser:

| Route | Does |
|---|---|
| `POST /v1/chat/completions` | answers, streamed or whole |
| `GET /v1/models` | what your key may use |

Calls pass **the same gate** as the chat: the same wallet, the same limits, the same books. Errors
are in OpenAI's shape, with a code you can act on: `402` for money, `403` for a quota or a model,
`429` for a rate, with `Retry-After` where waiting helps.
""",
    ),
    _topic(
        "stopping",
        "stop stopped cancel abort interrupt interrupted reload close tab resume",
        """
## When you press Stop

The connection to the provider is closed **at once**. Then:

- the words you already have are kept and marked *stopped*;
- Purser asks the provider what the stopped answer really cost;
- only that is charged, and the rest of the hold comes back.

Closing the tab is **not** stopping. The answer goes on in the background, and it is there when you
come back, also on another device.

Try it: send `[[long 500]]` and press **Stop** in the middle.
""",
    ),
    _topic(
        "connecting a provider",
        "openrouter connect provider real setup configure install ollama anthropic google",
        """
## Connect real models

1. Create a key at **openrouter.ai**, under *Keys*. Set a spending limit on it: a second lock.
2. Give it to Purser, in the environment or in the file `.env`:

   ```bash
   OPENROUTER_API_KEY=sk-or-...
   ```

3. Start Purser again and fetch the catalogue:

   ```bash
   python -m core models sync
   ```

Hundreds of models appear with their prices. From then on every answer is a real one, and every cent
of it is in the books.
""",
    ),
    _topic(
        "models",
        "model choose choice best switch gpt claude gemini llama reasoning",
        """
## Choosing a model

- **Small and fast** for rewriting, summaries and everyday questions.
- **Large** for long documents and difficult code.
- **Reasoning** when the answer must be worked out step by step. Its thoughts are billed as well,
  also where they are hidden.

Here in the demonstration:

| Model | Character |
|---|---|
| `demo/free-sailor` | costs nothing |
| `demo/purser` | a small price, so you see the books move |
| `demo/admiral` | thinks before it speaks, and is paid for it |

You can change the model in the middle of a conversation. Each answer is priced by the model that
really gave it.
""",
    ),
    _topic(
        "Purser",
        "purser product app feature tour introduce",
        """
## What is Purser?

On a ship, the *purser* is the officer who keeps the money. **Purser** is team chat with every AI
model, where every cent is accounted for.

- **Teams** chat in the browser with many models, from one wallet.
- **Administrators** set budgets and see what each person and key spends.
- **Finance** closes the month and exports books that agree with the provider's bill.

### One gate

Nothing that costs money reaches a provider without passing it: rate, quota, budget and balance are
checked and the worst case is set aside. Nothing that passed is lost, or paid twice.

I am the built-in demo model. Ask me about *credits*, *holds*, *limits* or the *API*.
""",
        """
**Purser** brings three things under one roof that usually live apart:

| | Chat products | Gateways | Billing tools | Purser |
|---|:---:|:---:|:---:|:---:|
| pleasant chat | yes | no | no | **yes** |
| many models | some | yes | no | **yes** |
| says no in time | no | some | no | **yes** |
| books that close | no | no | yes | **yes** |

Write `What does a message cost?` to see how the money works.
""",
    ),
)
