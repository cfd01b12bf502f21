"""The distilled student as a product: kept, exported, registered, served."""
