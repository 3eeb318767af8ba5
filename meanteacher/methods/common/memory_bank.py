"""A memory of embeddings and the classes of their images, for similarities to images that were seen before."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMPTY = -1e9
"""The logit of an empty slot: its share in a softmax over slots is 0 as soon as any slot is filled."""


class MemoryBank(nn.Module):
    """`size` slots, each with an embedding of length 1, [dimension], and a distribution over classes, [num_classes].

    A slot belongs to one image (`write`) or holds whatever came (`append`); a method uses one of the two. When all
    slots are filled, the oldest one is overwritten. The bank carries no gradient, its operations have fixed shapes, and
    writing is deterministic. All slots are empty at first.
    """

    def __init__(self, *, size: int, dimension: int, num_classes: int):
        super().__init__()
        self.size = size
        self.register_buffer("embeddings", torch.zeros(size, dimension))
        self.register_buffer("classes", torch.zeros(size, num_classes))
        self.register_buffer("owner", torch.full((size,), -1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Whether each slot holds something: bool [size]."""
        return self.owner >= 0

    def log_similarity(self, embeddings: Tensor, temperature: float) -> Tensor:
        """log softmax over the filled slots of ⟨embedding, slot⟩ / temperature: float32 [B, D] → [B, size].

        Empty slots get about −1e9. Carries a gradient to `embeddings`; the bank may be written again only after the
        backward pass. Float32 under autocast too.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = embeddings.float() @ self.embeddings.T / temperature
        return logits.masked_fill(~self.filled, EMPTY).log_softmax(dim=1)

    @torch.no_grad()
    def append(self, embeddings: Tensor, classes: Tensor) -> None:
        """Fill the next B slots with embeddings [B, D] and distributions [B, C]; they belong to no image."""
        position = torch.arange(len(embeddings), device=embeddings.device)
        self.fill((self.cursor + position) % self.size, torch.zeros_like(position), embeddings, classes)
        self.advance(len(embeddings))

    @torch.no_grad()
    def write(self, index: Tensor, embeddings: Tensor, classes: Tensor, decay: float) -> None:
        """Write embeddings [B, D] and distributions [B, C] of images into their slots; a new image gets the next one.

        index: int64 [B], which image. The embedding of an image that is written again becomes norm(decay · old +
        (1 − decay) · new). Of an image that occurs more than once, the last row is kept.
        """
        position = torch.arange(len(index), device=index.device)
        held = self.owner == index[:, None]
        known = held.any(dim=1)
        first = (index[:, None] == index).int().argmax(dim=1)
        new = ~known & (first == position)
        following = (self.cursor + new.cumsum(dim=0) - 1) % self.size
        slot = torch.where(known, held.int().argmax(dim=1), following)[first]
        blended = F.normalize(decay * self.embeddings[slot] + (1 - decay) * embeddings, dim=1)
        self.fill(slot, index, torch.where(known[:, None], blended, embeddings), classes)
        self.advance(new.sum())

    def fill(self, slot: Tensor, owner: Tensor, embeddings: Tensor, classes: Tensor) -> None:
        """Copy row i into slot[i]; of several rows for one slot, the last. slot, owner: int64 [B]."""
        position = torch.arange(len(slot), device=slot.device)
        row = torch.full_like(self.owner, -1).scatter_reduce(0, slot, position, "amax")
        written, row = row >= 0, row.clamp(min=0)
        self.owner.copy_(torch.where(written, owner[row], self.owner))
        self.embeddings.copy_(torch.where(written[:, None], embeddings[row].float(), self.embeddings))
        self.classes.copy_(torch.where(written[:, None], classes[row].float(), self.classes))

    def advance(self, count: Tensor | int) -> None:
        """Move the position of the next free slot by `count`."""
        self.cursor.copy_((self.cursor + count) % self.size)
