"""Import of published checkpoints: one safetensors file and its card are made of each."""
