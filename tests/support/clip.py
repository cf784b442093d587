"""A CLIP small enough to be made by a test: random weights, and a tokenizer whose tokens are single characters."""

import json
import string

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

WIDTH = 8  # of the text states and of the projection: as CLIP ViT-L/14, whose both are 768


def write_tiny_clip(folder):
    """Write CLIP in its own layout, image half included. Returns the model."""
    torch.manual_seed(0)
    text = text_config()
    vision = CLIPVisionConfig(
        hidden_size=4,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=8,
        patch_size=8,
        projection_dim=WIDTH,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    model = CLIPModel(config).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def write_tiny_diffusion_text(folder):
    """Write the text parts of Stable Diffusion in its layout. Returns the text encoder."""
    torch.manual_seed(1)
    model = CLIPTextModel(text_config()).eval()
    model.save_pretrained(folder / "text_encoder")
    write_tokenizer(folder / "tokenizer")
    return model


def text_config():
    size = len(vocabulary())
    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        projection_dim=WIDTH,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )


def vocabulary():
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def write_tokenizer(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
