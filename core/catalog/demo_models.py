"""The three demo models, in the shape of OpenRouter's catalogue, and what a call of them costs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A model of the demo provider; prices in USD per token."""

    id: str
    name: str
    description: str
    prompt_usd: Decimal
    completion_usd: Decimal
    context_tokens: int
    reasons: bool = False

    def cost_usd(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """The exact cost of a call."""
        return prompt_tokens * self.prompt_usd + completion_tokens * self.completion_usd

    def catalogue_row(self) -> dict[str, object]:
        """The model as `/models` lists it."""
        parameters = ["max_tokens", "tools", "tool_choice"] + ["reasoning"] * self.reasons
        return {
            "id": self.id,
            "canonical_slug": self.id,
            "name": self.name,
            "created": 1_795_000_000,
            "description": self.description,
            "context_length": self.context_tokens,
            "architecture": {
                "modality": "text->text",
                "input_modalities": ["text"],
                "output_modalities": ["text"],
                "tokenizer": "Other",
                "instruct_type": None,
            },
            "pricing": {
                "prompt": format(self.prompt_usd, "f"),
                "completion": format(self.completion_usd, "f"),
            },
            "top_provider": {
                "context_length": self.context_tokens,
                "max_completion_tokens": None,
                "is_moderated": False,
            },
            "per_request_limits": None,
            "supported_parameters": parameters,
            "default_parameters": {},
            "expiration_date": None,
        }


DEMO_MODELS = {
    model.id: model
    for model in (
        DemoModel(
            "demo/free-sailor",
            "Demo: Free Sailor (free)",
            "Built in and free. Answers from a script, without a network.",
            Decimal(0),
            Decimal(0),
            32_768,
        ),
        DemoModel(
            "demo/purser",
            "Demo: Purser",
            "Built in, with a small price, so that holds, costs and limits can be seen at work.",
            Decimal("0.000001"),
            Decimal("0.000004"),
            131_072,
        ),
        DemoModel(
            "demo/admiral",
            "Demo: Admiral",
            "Built in, thinks before it answers, and is priced like a large model.",
            Decimal("0.000003"),
            Decimal("0.000015"),
            200_000,
            reasons=True,
        ),
    )
}
