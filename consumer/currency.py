"""
Money as written in events, to whole minor units, without ever being a float.

Exponents are those of ISO 4217 list one. Codes without minor units of money
(metals, test codes, accounting units such as XDR) are not accepted.
"""

import re
from decimal import Decimal
from types import MappingProxyType

from consumer.errors import Rejected

MAX_MINOR = 2**40 - 1
"""Largest amount: about 11 thousand million in a currency of two decimals."""

# BGN and ANG were withdrawn in 2026 and 2025 and stay, because history holds them.
_TWO_DECIMALS = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD
CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS
GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL
MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK
PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS
TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG
"""
_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: _TWO_DECIMALS,
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}

EXPONENTS = MappingProxyType(
    {code: decimals for decimals, codes in _BY_DECIMALS.items() for code in codes.split()}
)
"""Decimals of each accepted currency."""

_MAX_LENGTH = 40
_EXPECTED = "expected a number of 0 or more, or the same as text, such as 12.50"
# Raw JSON, so a text still has its quotes; [0-9] rather than \d would be the same on bytes.
_PLAIN = re.compile(rb'"?(0|[1-9]\d{0,14})(?:\.(\d+))?"?')
_ANY = re.compile(rb'"?(-?)((?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)"?')


def minor_units(field: str, raw: bytes, currency: str) -> int:
    """
    Read the raw JSON of an amount in *currency* (a key of EXPONENTS) as minor units.

    *raw* is a JSON number or a string with the same grammar. Zeros behind the
    currency's decimals are no extra decimals: 100.0 yen are 100. Raises
    Rejected: ``wrong_type``, ``bad_value``, ``out_of_range`` or
    ``too_many_decimals``, with *field* in the message.
    """
    exponent = EXPONENTS[currency]
    plain = _PLAIN.fullmatch(raw) if len(raw) <= _MAX_LENGTH else None
    if plain is None:
        return _minor_units_of_rare_form(field, raw, currency)
    whole, fraction = plain.groups(b"")
    if len(fraction) > exponent:
        fraction = fraction.rstrip(b"0")
        if len(fraction) > exponent:
            raise _too_many_decimals(field, currency)
    minor = int(whole + fraction.ljust(exponent, b"0"))
    if minor > MAX_MINOR:
        raise _too_large(field)
    return minor


def _minor_units_of_rare_form(field: str, raw: bytes, currency: str) -> int:
    """Read what is not plain decimal: exponents, signs, very long numbers, other types."""
    if raw[:1] not in b'"-0123456789':
        raise Rejected("wrong_type", f"{field}: {_EXPECTED}")
    if len(raw) > _MAX_LENGTH:
        raise Rejected("out_of_range", f"{field}: expected at most {_MAX_LENGTH} characters")
    match = _ANY.fullmatch(raw)
    if match is None:
        raise Rejected("bad_value", f"{field}: {_EXPECTED}")
    sign, number = match.groups()
    if sign:
        raise Rejected("out_of_range", f"{field}: {_EXPECTED}")
    # Digits and exponent as integers: arithmetic on Decimal would round to 28 digits.
    parts = Decimal(number.decode()).as_tuple()
    value = int("".join(map(str, parts.digits)))
    shift = int(parts.exponent) + EXPONENTS[currency]
    if shift < 0:
        value, rest = divmod(value, 10**-shift)
        if rest:
            raise _too_many_decimals(field, currency)
    elif value:
        value *= 10**shift
    if value > MAX_MINOR:
        raise _too_large(field)
    return value


def _too_many_decimals(field: str, currency: str) -> Rejected:
    expected = f"expected at most {EXPONENTS[currency]} decimals in {currency}"
    return Rejected("too_many_decimals", f"{field}: {expected}")


def _too_large(field: str) -> Rejected:
    return Rejected("out_of_range", f"{field}: expected at most {MAX_MINOR} minor units")
