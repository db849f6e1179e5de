"""Pretraining: masked language modelling and next-segment prediction."""
