"""The cost model: all measured costs and limits that decide how a graph is compiled.

Each field says its unit, its use, and the measurement behind it.  If nothing else is said, that was
taken on one thread of an EPYC of the fourth generation (Zen 4) in float32, with MXNet 1.9.1.
`benchmarks/costs.py` takes the times again and prints them beside these.
"""

from __future__ import annotations

from dataclasses import dataclass

from ksym.ops.reductions.reduction import LONGEST_SUM


@dataclass(frozen=True)
class Costs:
    """The costs and limits by which graphs are compiled; a field of `ksym.compiler.plan.Target`.

    >>> from ksym.compiler.fusion.choose import fuse_loops
    >>> from ksym.ops import placeholder, tanh
    >>> y = tanh(placeholder((4, 4)) * 2.0)
    >>> len(fuse_loops([y])), len(fuse_loops([y], Costs(kernel=100.0)))
    (1, 0)
    """

    # --- what is fused: microseconds, weighed against each other in `fusion/choose.py` -----------

    native_operator: float = 1.3
    """Microseconds of an elementwise operator in a native graph, whatever its size.

    Measured on 16 elements: addition 1.5 and tanh 1.3, which are oneDNN's; multiplication and exp,
    MXNet's own, 0.25; a product of matrices 0.7.
    """

    native_element: float = 0.6e-3
    """Microseconds of an elementwise operator in a native graph for each element besides.

    Measured on 65,536 elements: addition 0.52 ns, tanh 0.49, multiplication 0.38, exp 4.1.
    """

    kernel: float = 1.0
    """Microseconds of a kernel, or of a product between kernels, whatever its size.

    Measured for a tape of one kernel on 16 elements: 0.22 where it runs again and again, 0.9 to 1.2
    after other work in 1 MiB of memory, as in a step of training; docs/mxnet.md says 0.4, and 1.7
    behind native work.  A kernel that follows another one on a tape takes 0.01 more, a product of
    (8, 16) and (16, 16) 0.11.  Priced is the kernel that stands alone: that is where it matters.
    """

    instruction: float = 0.06e-3
    """Microseconds of an instruction of a kernel for each element.

    Measured on 65,536 elements: multiplication and addition 0.015 ns, tanh 0.40.  The value is that
    of a mixture with one function in eight.
    """

    stream: float = 0.05e-3
    """Microseconds for each element of an array that a kernel reads or writes.

    Measured: 0.016 ns for 4,096 elements, 0.025 for 65,536, 0.24 for four millions, which do not
    stay in the cache.
    """

    native_graph: float = 10.0
    """Microseconds that kernels between two native graphs have to save to divide one.

    Dividing one takes less: 2.1 to 2.6 measured, 1.2 to 1.7 after other work in 1 MiB of memory;
    a native graph of one operator takes 3.8 (docs/mxnet.md: 3), most of which is that operator.
    The rest is a margin for what is paid once: the code of a kernel takes 3 ms to compile for a few
    elements and 20 to 50 for more, which is 5 us of each of the first 600 to 10,000 calls.
    With 2.4 instead, and 0.3 for `kernel`, the networks of benchmarks/contest/workloads.py are
    planned the same.
    """

    repeated_element: float = 3e-3
    """Microseconds for each element of an operator that a gradient kernel in another graph repeats.

    Measured for a batch normalisation of a million elements in order 2.8 ns, a max pooling 0.9.
    """

    # --- how much is compiled --------------------------------------------------------------------

    instructions: int = 64
    """Instructions of a kernel at most; longer chains are several kernels.

    Measured: optimised code takes 20 ms to compile, 8 more for each function such as tanh, and 0.1
    for arithmetic; so 0.5 s for 64 functions.  No kernel of the networks of the benchmarks has more
    than 43.
    """

    instructions_in_all: int = 2048
    """Instructions of all kernels of a graph at most; the shortest kernels stay native then.

    Kernels of one structure share their code and count once, as those of a deep network do.

    A bound on the time of a first call: 16 s, if all are functions (`instructions`).  Of the
    networks of the benchmarks ResNet-20 has most, 137.
    """

    fusing_rounds: int = 8
    """The largest number of rounds in which kernels are chosen, and those that do not pay removed.

    An end to the search; what is found when it comes to it is used.
    """

    called_elements: int = 256
    """Elements up to which a function that is called for each of them, as sin, is in kernels.

    Measured in a kernel and natively: sin 0.15 and 0.32 us for 64 elements, 9.5 and 9.4 for 4,096;
    power 0.3 and 0.6 us, 18 and 24.  A call takes about as long in both, so that a kernel saves
    the fixed cost of the native operator, which is little beside many calls.
    """

    summands: int = LONGEST_SUM
    """Summands of a reduction in a kernel at most; longer sums become sums of sums of blocks.

    Not for its time: a kernel adds one summand after the other, and the error grows with their
    number, to 1e-3 at the worst in float32; BLAS and NumPy add in blocks.
    """

    unoptimised_elements: int = 64
    """Elements up to which the code of a kernel is not optimised.

    Measured for a tanh of 64 elements: optimised code takes 30 ms to compile, other code 3, and
    they run in 0.03 and 0.44 us.  So optimising pays after 60,000 calls.
    """

    # --- passes over graphs ----------------------------------------------------------------------

    loop_memory: int = 1 << 28
    """Bytes at most that a pass may add to the stacks of a loop.

    A bound on what time is bought with, not a time.  How dear that can be was measured where
    convolutions were kept too: two layers of ConvLSTM2D took 2046 MiB instead of 1160, for 4% of a
    step ("Products leave their loops" in docs/architecture.md).
    """

    unrolled_nodes: int = 16384
    """Nodes at most that loops become by unrolling, where kernels cannot be compiled.

    A bound on the time of a first call, not a time: a node takes 0.1 ms to be made, lowered and
    bound.  Measured with MXNet's threaded engine, training an LSTM(16) with hard_sigmoid over 160
    steps: a step takes 21 ms written out, in 12,267 nodes, and 101 if only the forward loop is; the
    first one 1.3 and 0.6 s.  A cell of 8 units over 40 steps: 1.0 instead of 38 ms.
    """

    folded_elements: int = 1024
    """Elements at most of a constant that constant folding computes.

    A large constant would take memory for as long as the function lives.  Up to here it is 8 KiB,
    and its operator would take `native_operator` and 0.6 us at each call.
    """

    native_flop: float = 2e-5
    """Microseconds of a floating-point operation of a product or convolution.

    Measured for convolutions on one thread: 90 to 110 GFLOP/s, half of it for small ones.
    """

    kept_time: float = 20.0
    """Microseconds of a call that folding of variables has to save.

    Estimated: what is folded is a plan of its own, which takes some milliseconds to compile, and
    some microseconds in each call after a variable has changed.
    """

    kept_elements: int = 1 << 14
    """Elements up to which a value is kept that is larger than its operands, or cheap.

    A bound on memory, 64 KiB, and no time: computing so much in one pass takes as long as reading.
    """

    padded_work: float = 2e6
    """Floating-point operations of a convolution from which on padding its channels pays.

    Measured for 16 images of 32 x 32 and windows of 3 x 3: from 28 channels to 12 filters 3.9 ms
    forward and 12.4 with gradients, from 32 to 16 padded 2.2 and 6.1; from 16 to 4 filters 1.9 and
    6.4, padded 1.0 and 2.2.  Padding and cutting take 1 ns for each element and 5 us.
    """

    block_of_channels: int = 16
    """The number of which padded channels are a multiple: that of oneDNN's blocks for AVX-512.

    Measured as above, GFLOP/s forward: from 16 to 20 filters 34, 24 filters 84, 36 filters 50, 40
    filters 76.  So half a block is fast too, and is left as it is.  But padding to half a block
    makes other blocks than those of the neighbours, for which the gradient of a normalisation has
    no fast kernel: a generator of pictures trained in 83 instead of 31 ms, with 16 in 23.
    """

    few_channels: int = 4
    """Channels up to which a kernel for the first layer, also of gradients, needs no padding.

    Measured, from 5 channels to 16 filters: 0.29 ms forward and 4.4 with gradients; from 8, 0.46
    and 1.9.  Forward up to 16 channels are as fast as a multiple of 8.
    """

    simplifying_rounds: int = 32
    """The largest number of times that a tensor is replaced by a simpler equal of its operator.

    An end to identities that would undo each other; there are none such.
    """

    # --- who computes it, decided in `runtime/calls.py` ------------------------------------------

    shared_instructions: int = 1 << 21
    """Elements times instructions of a kernel from which on all threads share it.

    At 0.4 ns for a function it is a millisecond, at 0.015 ns for an addition 30 us.  Measured for
    arithmetic on two threads: on an idle machine waking the other one takes 2 us, and two millions
    take 18 us instead of 32.  On a busy one a team waits until its slowest thread has its turn: 2
    to 10 ms, however little there is to do.
    """

    small_product: int = 8 << 20
    """Multiplications, divided by the threads, up to which a product is computed on one thread.

    Measured on one thread, blocks of our own and BLAS: 4.8 and 8.9 us for 64 x 64 x 64, 37 and 53
    for 128, 124 and 160 for 192, 294 and 360 for 256.  So on one thread blocks are the faster ones
    at all sizes.  But BLAS shares products among threads, and with more of them overtakes earlier:
    docs/mxnet.md has 11.6 us on two threads for (32, 128) and (128, 128), and 7 by blocks on one.
    """

    blocked_columns: int = 8
    """Columns from which on a product is computed by generated blocks, and not by BLAS.

    Measured for (32, 128) and (128, columns): 2.4 us by blocks, whose vectors are filled up; by
    BLAS 1.7 for one column, 2.1 for 4, 2.3 for 8, 3.4 for 16.
    """


DEFAULT = Costs()
