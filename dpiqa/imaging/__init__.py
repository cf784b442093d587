"""Bytes to pixels: sniffing, limits, modes, resizing, and the pool of killable decode processes. Free of torch."""
