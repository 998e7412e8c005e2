"""
What may be shown of a row or an event: card numbers masked, amounts left readable.

What arithmetic leaves behind (8.3000000000000007) has as many digits as a card number. Its
first decimals say what is wrong; with at most six digits before them nothing is shown
that may not be shown of a card number (PCI DSS, requirement 3.4.1: its first eight digits).
"""

import re

from consumer.masking import mask_payload, mask_text

# Alone between what separates values in JSON and CSV.
_LONG_FRACTION = re.compile(r'(?<=[:,;\t"])( ?-?\d{1,6}\.\d{2})\d{5,}(?=["\s,;}\]]|$)')


def show(text: str) -> str:
    """*text*, long fractions cut behind two decimals, whatever may be a card number masked."""
    return mask_text(_LONG_FRACTION.sub(r"\1…", text))


def show_event(data: bytes) -> str:
    """*data* as ``show`` does it, or described where it is no text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return mask_payload(data).text
    return mask_payload(_LONG_FRACTION.sub(r"\1…", text).encode()).text
