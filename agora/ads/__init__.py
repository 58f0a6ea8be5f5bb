"""The studio: brief -> audiences -> texts and images -> policy -> experiment -> export."""
