"""A stand-in for Stripe on a loopback port, for tests and for trying the product without keys."""

from core.billing.sandbox.server import Server, serve

__all__ = ["Server", "serve"]
