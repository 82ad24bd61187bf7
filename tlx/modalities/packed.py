"""Batches of packed texts, on the device."""

from tlx.modalities.api import Fields


def by_text(rows: Fields) -> Fields:
    """Merges the axes (rows, texts) of the fields that have one entry per text into one axis of texts, row after row.

    Fields of tokens, (rows, length, …), and `text_starts`, which the model reads, stay as they are. So does a batch
    whose texts are not packed.

    Args:
      rows: the fields of a batch; without `valid` (in evaluation) they stay as they are.
    """
    axes = rows["valid"].shape if "valid" in rows else ()
    if len(axes) < 2:
        return rows
    return {
        name: field.reshape(-1, *field.shape[2:]) if field.shape[:2] == axes and name != "text_starts" else field
        for name, field in rows.items()
    }
