"""The provider's bill: read, kept, compared with our books day by day, and what we missed imported."""
