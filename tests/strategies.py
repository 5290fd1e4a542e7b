"""Hypothesis strategies for what venues send."""

from hypothesis import strategies as st

from tasks.venues.book import WINDOW


@st.composite
def decimal_texts(draw, whole=12, decimals=12):
    """Draw a plain decimal as a venue writes it, zeros at either end included."""
    digits = st.text("0123456789", min_size=1, max_size=whole)
    tail = st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=decimals).map(".".__add__))
    return draw(digits) + draw(tail)


def odd_numbers():
    """Draw texts that some reader takes for a number and no venue may send, and long ones that it may."""
    return st.sampled_from((
        "", " ", "-1", "+1", "-0", "1_000", " 1", "1 ", "1.", ".5", ".", "1..2", "1.2.3", "1,5", "0x10", "NaN", "nan", "Infinity", "-inf",
        "1e5", "1E-3", "1e999", "1e-999", "1e999999", "1e-999999", "1e999999999999999999", "١٢", "１２", "1\u00a0", "true", "null",
        "9" * 18, "9" * 19, "9" * 400, "9007199254740991", "9007199254740993", "1." + "0" * 30, "00001.50",
        "0." + "0" * 25 + "1", "0.1234567890123456789",
    ))  # fmt: skip


@st.composite
def level_streams(draw, messages=12, levels=10):
    """Draw messages of `(side, price text, size text)`: touch and far levels, leaps beyond the window, finer ticks and more decimals.

    Sides know nothing of each other, so books also cross, run empty and thin out.
    """
    decimals = draw(st.integers(0, 3))
    centre = draw(st.integers(2 * WINDOW, 50 * WINDOW))
    step = draw(st.sampled_from((1, 1, 5, 300)))
    stream, used = [], []
    for _ in range(draw(st.integers(1, messages))):
        if draw(st.integers(0, 4)) == 0:
            centre = max(WINDOW, centre + draw(st.sampled_from((-20, -3, -1, 1, 3, 20))) * (WINDOW - draw(st.integers(-2, 2))) // 2)
        if centre < 10**11 and draw(st.integers(0, 9)) == 0:
            decimals, centre, step = decimals + 1, centre * 10, step * draw(st.sampled_from((1, 10)))
            used = [price * 10 for price in used]
        message = []
        for _ in range(draw(st.integers(0, levels))):
            width = draw(st.sampled_from((40, 40, 0, 0, 3 * WINDOW)))
            if width or not used:
                price = max(1, centre + step * draw(st.integers(-width, width)))
            else:
                price = draw(st.sampled_from(used))
            used.append(price)
            text = f"{price // 10**decimals}.{price % 10**decimals:0{decimals}d}" if decimals else str(price)
            message.append((draw(st.integers(0, 1)), text, draw(st.sampled_from(("0", "0.000", "1", "2.5", "0.00000001", "123456.789")))))
        stream.append(message)
    return stream
