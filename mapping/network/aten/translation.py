"""One pass over an exported program: each ATen operation becomes a value, a constant, or a list of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.network.compose.inputs import Asked, opened
from mapping.network.compose.outputs import Found, collected
from mapping.network.compose.refusal import ELSEWHERE, CannotCompose, UnsupportedOperation
from mapping.network.compose.values import Value
from mapping.network.operations.call import Call, Rule, aten_rules
from mapping.network.operations.table import operations
from mapping.operators.step import Shape

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

MOST_CONSTANT = 2**26
"""Elements of the largest tensor that is computed from constants."""

_NOTHING = {"_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_constrain_range", "_set_grad_enabled"}
_SETTINGS = {"wrap_with_autocast", "wrap_with_set_grad_enabled"}
_VIEWS = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "slice", "select"}
_VIEWS |= {"narrow", "expand", "chunk", "split", "unbind", "t", "detach", "alias", "getitem", "contiguous", "to"}
_ORDER = "return the values, and sort them after the network; within it, a stored threshold (x > t), or amax and amin"
_HINTS = {
    **dict.fromkeys(("sort", "topk", "argsort", "kthvalue"), _ORDER),
    "argmax": "return the values, and search them after the network; within it, x == x.amax(1, True) is a mask",
    "argmin": "return the values, and search them after the network; within it, x == x.amin(1, True) is a mask",
    "median": "max and min of neighbours, or leave it to the program that reads the results",
    "mode": "leave counts of results to the program that reads them",
    "nonzero": "stored places, or a product with a mask",
    "masked_select": "a product with a mask, or stored places",
    "unique": "leave values that differ to the program that reads the results",
    "_unique2": "leave values that differ to the program that reads the results",
    "bincount": "leave counts to the program that reads the results",
    "histc": "leave counts to the program that reads the results",
    "deform_conv2d": "an ordinary convolution: places that are computed have no node",
    "roi_align": "return the maps: regions that are found are left to the program that reads them",
    "max_unpool2d": "conv_transpose2d or interpolate",
    "_fft_r2c": "a product with stored cosines and sines",
    "_fft_c2c": "a product with stored cosines and sines",
    "_fft_c2r": "a product with stored cosines and sines",
    "stft": "conv1d with stored windows of cosines and sines",
    "linalg_inv_ex": "the inverse of a stored matrix as a stored matrix",
    "_linalg_det": "products and differences written out",
    "_linalg_svd": "return its input: no node takes matrices apart",
    "linalg_qr": "return its input: no node takes matrices apart",
    "atan2": "atan(y / x) where x is above zero",
    "cross": "differences of products of the three parts",
    "cummax": "a maximum over stored windows",
    "logcumsumexp": "log(cumsum(exp(x))) for x of moderate size",
    "multinomial": "return the probabilities: drawing is left to the program that reads them",
    "randint": "module.eval(): a network that runs is not random",
    "nms": "return boxes and scores: the choice among them is no part of the network",
    "cumprod": "the exponential of a cumsum of logarithms, where factors are above zero",
    "bernoulli": "module.eval(): a network that runs is not random",
    "rand": "module.eval(): a network that runs is not random",
    "randn": "module.eval(): a network that runs is not random",
}


@cache
def rules() -> Mapping[str, Rule]:
    """The rules of all names in ATen, and in other libraries that an installed operator knows."""
    return aten_rules(operations())


def rule_of(target: Any) -> Rule | None:
    """The rule of an operation: its overload's rule if there is one, else the rule of its base name."""
    base, overload = _parts(target)
    names = (f"{getattr(target, 'namespace', 'aten')}::{base}", f"{base}.{overload}", base)
    return next((rules()[name] for name in names if name in rules()), None)


def plain(program: ExportedProgram) -> ExportedProgram:
    """The program with operations that have no rule taken apart, and without operations in place."""
    import torch

    calls = [fx for fx in program.graph.nodes if fx.op == "call_function"]
    known = all(_known(fx) for fx in calls)
    if known and not any(_changes_a_view(fx) for fx in calls):
        return program
    table = torch.export.default_decompositions()
    for found in list(table):
        if rule_of(found) is not None:
            del table[found]
    try:
        apart: ExportedProgram = program.run_decompositions(table)
    except Exception:  # torch raises many kinds; the operation itself is named by the pass that follows
        return program
    return apart


def _known(fx: Any) -> bool:
    return rule_of(fx.target) is not None or _parts(fx.target)[0] in _NOTHING or not hasattr(fx.target, "_schema")


def _parts(target: Any) -> tuple[str, str]:
    """Name and overload of an ATen operator, without the mark of work in place: "add", "Tensor" for
    aten.add_.Tensor."""
    base = str(getattr(target, "_opname", getattr(target, "__name__", target)))
    overload = str(getattr(target, "_overloadname", ""))
    return (base.rstrip("_") or base), "" if overload == "default" else overload


def _changes_a_view(fx: Any) -> bool:
    """Whether an operation in place may change what another name also shows."""
    name = str(getattr(fx.target, "_opname", ""))
    if not name.endswith("_") or name.startswith("_"):
        return False
    changed = fx.args[0]
    near = [changed, *changed.users]
    return any(_parts(other.target)[0] in _VIEWS for other in near if other.op == "call_function")


@dataclass(frozen=True, slots=True)
class Translated:
    """The outputs as nodes of a composer, and the inputs that they came from."""

    asked: Asked
    found: Found
    composer: Composer


class Translation:
    """Values of an exported program: fx node -> value, torch tensor (constant), number or a list of them."""

    def __init__(self, program: ExportedProgram, channels: int | None) -> None:
        signature = program.graph_signature
        self.program, self.channels = program, channels
        self.seen: dict[Any, Any] = {}
        self.parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.constants = dict(signature.inputs_to_lifted_tensor_constants)

    def run(self) -> Translated:
        users = set(self.program.graph_signature.user_inputs)
        given = [fx for fx in self.program.graph.nodes if fx.op == "placeholder" and fx.name in users]
        if any(not hasattr(fx.meta.get("val"), "shape") for fx in given):
            raise UnsupportedOperation(
                "input", "", "an input that is not a tensor", "numbers as attributes of the module"
            )
        shapes = [_shape(fx) for fx in given]
        try:
            asked = Asked.of(shapes, self.channels, self._tokens(given))
        except CannotCompose as refused:
            raise UnsupportedOperation("input", "", refused.reason, refused.hint) from None
        self.composer = Composer(asked.batch)
        self.seen |= dict(zip(given, opened(self.composer, asked), strict=True))
        for fx in self.program.graph.nodes:
            if fx.op == "placeholder" and fx not in self.seen:
                self.seen[fx] = self._stored(fx)
        return Translated(asked, self._outputs(self._walk(self.program.graph_module)), self.composer)

    def _tokens(self, given: Sequence[Any]) -> int:
        """Rows of the table that an input of whole numbers looks its tokens up in; 0: no such input."""
        for fx in self.program.graph.nodes:
            if fx.op == "call_function" and "embedding" in _parts(fx.target)[0]:
                ids = fx.args[1]
                while ids not in given and hasattr(ids, "op") and ids.op == "call_function":
                    ids = ids.args[0]
                if ids in given:
                    return int(fx.args[0].meta["val"].shape[0])
        return 0

    def _walk(self, module: Any) -> list[Any]:
        """Results of a graph whose inputs are known."""
        for fx in module.graph.nodes:
            if fx.op == "get_attr":
                self.seen[fx] = getattr(module, fx.target)
            elif fx.op == "call_function":
                self._call(fx)
            elif fx.op == "output":
                return [self.seen[result] if hasattr(result, "op") else result for result in fx.args[0]]
        return []

    def _inside(self, fx: Any) -> list[Any]:
        """Results of a part that runs under a setting of torch which changes no result here."""
        place = next(n for n, part in enumerate(fx.args) if hasattr(part, "op") and part.op == "get_attr")
        module = self.seen[fx.args[place]]
        inputs = [part for part in module.graph.nodes if part.op == "placeholder"]
        self.seen |= {inner: self.seen[outer] for inner, outer in zip(inputs, fx.args[place + 1 :], strict=True)}
        return self._walk(module)

    def _stored(self, fx: Any) -> torch.Tensor:
        key = self.parameters.get(fx.name)
        tensor = (
            self.program.constants.get(self.constants.get(fx.name, ""))
            if key is None
            else self.program.state_dict.get(key, self.program.constants.get(key))
        )
        if tensor is None:
            raise UnsupportedOperation(
                "input",
                fx.name,
                "neither an input nor a stored tensor",
                "numbers and switches as attributes of the module",
            )
        stored: Any = tensor
        return stored.detach()  # type: ignore[no-any-return]

    def _call(self, fx: Any) -> None:
        base, overload = _parts(fx.target)
        if base in _NOTHING:
            self.seen[fx] = None
            return
        if base in _SETTINGS:
            self.seen[fx] = self._inside(fx)
            return
        inputs = [self.seen[source] for source in fx.all_input_nodes]
        if fx.target is operator.getitem:
            whole = self.seen[fx.args[0]]
            self.seen[fx] = whole[fx.args[1]] if isinstance(whole, list | tuple) else whole
        elif any(given is None for given in inputs):
            raise self._refusal(
                fx,
                "it reads a second result that no node gives, such as the places of maxima",
                "the first result alone; conv_transpose2d or interpolate where maxima are put back",
            )
        elif not any(_holds_value(x) for x in inputs):
            self.seen[fx] = self._folded(fx)
        else:
            self.seen[fx] = self._by_rule(fx, base, overload)
        if str(getattr(fx.target, "_opname", "")).endswith("_") and not base.startswith("_"):
            self.seen[fx.args[0]] = self.seen[fx]  # in place: later readers of the argument see the result

    def _folded(self, fx: Any) -> Any:
        """A result of constants alone, computed now."""
        import torch

        shape = getattr(fx.meta.get("val"), "shape", ())
        if math.prod(size for size in shape if isinstance(size, int)) > MOST_CONSTANT:
            raise self._refusal(
                fx,
                f"a constant {tuple(shape)} of more than {MOST_CONSTANT} elements",
                "a smaller constant, or one that is expanded where it is used",
            )
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            args, kwargs = (torch.fx.node.map_arg(given, self._constant) for given in (fx.args, fx.kwargs))
            before = torch.get_rng_state()
            found = fx.target(*args, **kwargs)
            if not torch.equal(before, torch.get_rng_state()):  # dropout that is off draws nothing
                raise self._refusal(fx, "it is random", "module.eval(), or stored numbers")
        return found

    def _constant(self, source: Any) -> Any:
        """A stored or computed constant as torch has it here, also one that a rule gave."""
        import torch

        found = self.seen[source]
        if not isinstance(found, np.ndarray):
            return found
        kind = getattr(source.meta.get("val"), "dtype", None)
        return torch.tensor(found, dtype=kind)

    def _by_rule(self, fx: Any, base: str, overload: str) -> Any:
        rule = rule_of(fx.target)
        if rule is None:
            raise self._refusal(fx, "there is no node for it", _HINTS.get(base, ELSEWHERE))
        self.composer.begin(_place(fx))
        given = _arguments(fx)
        owners = {name: self._owner(argument) for name, argument in given.items()}
        resolved = {name: self._resolved(argument) for name, argument in given.items()}
        shape = self._sizes(fx)
        booleans = frozenset(name for name, argument in given.items() if _boolean(argument))
        call = Call(resolved, shape, {n: o for n, o in owners.items() if o}, booleans, overload)
        try:
            found = rule(self.composer, call)
        except CannotCompose as refused:
            raise self._refusal(fx, refused.reason, refused.hint) from None
        first = found[0] if isinstance(found, list) else found
        if tuple(first.shape) != shape:
            raise self._refusal(fx, f"gives {tuple(first.shape)}, where torch gives {shape}", "report it, please")
        return found

    def _sizes(self, fx: Any) -> Shape:
        """The shape of a result, which must not depend on values."""
        found = fx.meta["val"]
        sizes = (found[0] if isinstance(found, list | tuple) else found).shape
        if not all(isinstance(size, int) for size in sizes):
            raise self._refusal(
                fx, "its size depends on values", "stored places in index_select, or output_size of repeat_interleave"
            )
        return tuple(sizes)

    def _resolved(self, argument: Any) -> Any:
        """An argument with its fx nodes replaced: values, arrays, numbers."""
        import torch

        if isinstance(argument, torch.fx.Node):
            argument = self.seen[argument]
        if isinstance(argument, list | tuple):
            return [self._resolved(part) for part in argument]
        if isinstance(argument, torch.Tensor):
            return (argument.float() if argument.is_floating_point() else argument).detach().numpy()
        return argument

    def _owner(self, argument: Any) -> str:
        """``layer1.0.conv1`` for its parameter ``layer1.0.conv1.weight``, also behind operations on it alone."""
        if isinstance(argument, list | tuple):
            argument = argument[0] if argument else None
        while argument is not None and hasattr(argument, "op"):
            key: str = self.parameters.get(argument.name, "")
            if key or argument.op != "call_function" or isinstance(self.seen.get(argument), Value):
                return key.rpartition(".")[0]
            argument = next(iter(argument.all_input_nodes), None)
        return ""

    def _outputs(self, results: list[Any]) -> Found:
        names = _output_names(self.program, len(results))
        kept = [(name, result) for name, result in zip(names, results, strict=True) if result is not None]
        try:
            self.composer.begin(ModulePlace("outputs"))
            return collected(self.composer, [name for name, _ in kept], [result for _, result in kept])
        except CannotCompose as refused:
            raise UnsupportedOperation("output", "", refused.reason, refused.hint) from None

    def _refusal(self, fx: Any, reason: str, hint: str) -> UnsupportedOperation:
        return UnsupportedOperation(str(fx.target), _module_path(fx) or "the network", reason, hint)


def _holds_value(found: Any) -> bool:
    if isinstance(found, list | tuple):
        return any(_holds_value(part) for part in found)
    return isinstance(found, Value)


def _arguments(fx: Any) -> dict[str, Any]:
    """Arguments by the names of the operation's schema, defaults filled in."""
    schema = fx.target._schema.arguments if hasattr(fx.target, "_schema") else ()
    values = {a.name: a.default_value for a in schema if a.has_default_value()}
    values |= {a.name: value for a, value in zip(schema, fx.args, strict=False)}
    return values | dict(fx.kwargs)


def _boolean(argument: Any) -> bool:
    import torch

    return getattr(getattr(argument, "meta", {}).get("val"), "dtype", None) is torch.bool


def _module_path(fx: Any) -> str:
    stack = list((fx.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _place(fx: Any) -> ModulePlace:
    """The path of the module around an operation, and whether it is one of torch's own."""
    stack = list((fx.meta.get("nn_module_stack") or {}).values())
    path, cls = (str(stack[-1][0]), str(stack[-1][1])) if stack else ("", "")
    own = cls.startswith("torch.nn.modules.") and not cls.startswith("torch.nn.modules.container")
    return ModulePlace(path, own)


def _shape(fx: Any) -> Shape:
    """The shape of a result, of the first one if there are several."""
    found = fx.meta["val"]
    first = found[0] if isinstance(found, list | tuple) else found
    return tuple(int(size) for size in first.shape)


def _output_names(program: ExportedProgram, count: int) -> Sequence[str]:
    """Names of the outputs: keys and places in what the module returns."""
    import torch

    if count == 1:
        return ["output"]
    spec = program.call_spec.out_spec
    try:
        numbered = torch.utils._pytree.tree_unflatten(list(range(count)), spec)
        paths = torch.utils._pytree.tree_flatten_with_path(numbered)[0]
    except (ValueError, TypeError, AttributeError):
        return [str(n) for n in range(count)]
    return [
        ".".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
        for path, _ in paths
    ]
