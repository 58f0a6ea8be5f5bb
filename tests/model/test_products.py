"""The products against torch.mm, both judged by float32. Skipped, saying so, where the build has none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from agora.model import kernels, products

library = kernels.library()
pytestmark = pytest.mark.skipif(
    library is None or not library.has_products(), reason="needs AVX512_BF16 and no AMX: products.c is for these"
)

# the only rounding of the result is to 8 bits, off by up to 2^-9; the mean over many is below half of that
TOLERANCE = 2e-3
# (M, K, N): whole tiles; every remainder of rows and columns; K over one and two ranges, even and odd; single ones
SHAPES = [(96, 64, 64), (100, 768, 200), (97, 3200, 130), (301, 4099, 66), (65, 33, 15), (64, 2, 1)]


def draw(rows: int, columns: int, seed: int, *, is_view: bool) -> torch.Tensor:
    shape = (columns, rows) if is_view else (rows, columns)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return values.t() if is_view else values


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("is_left_view", [False, True])
@pytest.mark.parametrize("is_right_view", [False, True])
def test_product_is_the_exact_one_rounded_once(shape: tuple[int, int, int], is_left_view: bool, is_right_view: bool) -> None:
    rows, inner, columns = shape
    left, right = draw(rows, inner, 0, is_view=is_left_view), draw(inner, columns, 1, is_view=is_right_view)
    exact = left.double() @ right.double()
    found = products.multiply(left, right)
    assert float((found.double() - exact).norm() / exact.norm()) < TOLERANCE
    assert torch.equal(found, products.multiply(left, right, out_MN=torch.full_like(found, float("nan"))))


@pytest.mark.parametrize("shape", SHAPES)
def test_added_products_stay_in_float32(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    left, right = draw(rows, inner, 0, is_view=True), draw(inner, columns, 1, is_view=False)
    sums = torch.randn(rows, columns, generator=torch.Generator().manual_seed(2))
    exact = sums.double() + 2 * (left.double() @ right.double())
    for _ in range(2):
        products.add_product(sums, left, products.pack(right))
    # float32 sums of K products: 24 bits, and rounding grows with the square root of K
    assert float((sums.double() - exact).norm() / exact.norm()) < 1e-5


def test_number_of_threads_does_not_change_a_bit() -> None:
    left, right = draw(500, 2000, 0, is_view=True), draw(2000, 130, 1, is_view=False)
    before, found = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(products.multiply(left, right))
    torch.set_num_threads(before)
    assert torch.equal(*found)


def test_nan_and_infinity_come_through() -> None:
    left, right = draw(64, 64, 0, is_view=False), draw(64, 64, 1, is_view=False)
    left[3, 5], left[7, 5] = float("nan"), float("inf")
    found = products.multiply(left, right)
    assert bool(found[3].isnan().all()) and not bool(found[7].isfinite().any()) and bool(found[8:].isfinite().all())


def test_what_the_kernels_do_not_take_goes_to_torch() -> None:
    odd, right = draw(64, 33, 0, is_view=False), draw(33, 64, 1, is_view=False)
    assert torch.equal(products.multiply(odd, right), torch.mm(odd, right))
    strided = draw(64, 128, 0, is_view=False)[:, ::2]
    assert torch.equal(products.multiply(strided, draw(64, 8, 1, is_view=False)), torch.mm(strided, draw(64, 8, 1, is_view=False)))
    wide = torch.randn(64, 64)
    assert torch.equal(products.multiply(wide, wide), torch.mm(wide, wide))
    few = draw(3, 64, 0, is_view=False)
    assert torch.equal(products.multiply(few, right[:32].repeat(2, 1)), torch.mm(few, right[:32].repeat(2, 1)))
