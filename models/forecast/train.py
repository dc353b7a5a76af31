"""Training in torch: the plain forecasts first, then the network on top of them.

The loss is what is judged: the mean distance between forecast and truth, each data set and horizon weighed by how far
its animals go, plus a little of the t distribution's negative log-likelihood, which shapes the ellipse and may not move
the forecast. Half of each batch is mirrored at the heading, since animals have no handedness; the group and the state
are hidden now and then, so that an animal of another species and one without states are served too. The weights that
are kept are a running mean over the steps.

Everything that is chosen (penalties, spreads, radii, who is served) is chosen on validation data, never on test data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from models.artifact import Manifest, TrainingSet, versions
from models.forecast.baselines import HORIZONS_H, NAMES, PENALTIES, Baselines, FloatArray, fit
from models.forecast.calibration import N_LEVELS, levels, levels_of_t
from models.forecast.datasets import Animal, Read, folds, read
from models.forecast.engines import LAYERS, Float32Array, NumpyEngine
from models.forecast.export import export_baselines, export_float, export_fold, export_network
from models.forecast.features import (
    N_CONTEXT,
    N_TOKENS,
    N_VECTORS,
    TOKEN_WIDTH,
    IntArray,
    Known,
    context_slice,
    lags_of,
)
from models.forecast.fitted import ALL_GROUPS, NETWORK, SPEAKERS, Fitted, Network, Scaling
from models.forecast.heads import FREEDOM, WIDTH, Distribution, cut, spread_of, units_m
from models.forecast.runtime import Forecaster
from models.forecast.samples import Samples, before_test, known_of, samples_of
from shared.console import errors
from shared.errors import Invalid

Progress = Callable[[str], None]

_H: Final = len(HORIZONS_H)
# Fewer validation truths of a group than this decide nothing on their own.
_FEWEST: Final = 30
_DAY_S: Final = 86_400.0
#: The shares of the network that validation chooses among.
SHARES_OF_NETWORK: Final = tuple(round(0.1 * i, 1) for i in range(1, 11))


#: For animals of no group: which plain forecast the network is drawn to, and how much of its own is left. What other
#: species' validation parts would choose says little of one that nobody has trained on; staying where it is errs least
#: when it errs. So no validation part chooses who speaks to a stranger either, and its radii are those of this place.
STRANGER: Final = SPEAKERS.index("persistence"), 0.5


def say(text: str) -> None:
    """Say how far it is, on stderr: facts go to stdout."""
    errors.print(text, highlight=False, markup=False)


def _prefixed(progress: Progress, title: str) -> Progress:
    return lambda text: progress(f"{title}: {text}")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is trained. ``n_folds`` of individuals are left out in turn, each a training of its own."""

    epochs: int = 10
    rate: float = 2e-3
    batch: int = 512
    dropout: float = 0.2
    decay: float = 0.01
    likelihood: float = 0.2
    quiet: float = 1e-3
    hidden: int = 32
    dense: tuple[int, int] = (96, 64)
    hide_group: float = 0.15
    hide_state: float = 0.1
    mean_of: float = 0.995
    seed: int = 1
    n_folds: int = 4


class Learned(NamedTuple):
    """What training gives: the fitted numbers, the network's float32 weights, and how its context is scaled."""

    fitted: Fitted
    weights: dict[str, Float32Array]
    scaling: Scaling


class Net(nn.Module):
    """The network in torch; ``engines.NumpyEngine`` is the same in numpy."""

    def __init__(self, hidden: int, dense: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(TOKEN_WIDTH, hidden, batch_first=True)
        self.first = nn.Linear(hidden + N_CONTEXT, dense[0])
        self.second = nn.Linear(dense[0], dense[1])
        self.head = nn.Linear(dense[1], _H * WIDTH)
        self.drop = nn.Dropout(dropout)
        with torch.no_grad():
            # A fresh network says little, which is the ridge regression.
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Return heads (n, H, WIDTH)."""
        out, _ = self.lstm(tokens)
        x = self.drop(torch.cat((out[:, -1], context), dim=1))
        x = self.drop(torch.relu(self.first(x)))
        x = self.drop(torch.relu(self.second(x)))
        heads: Tensor = self.head(x).reshape(-1, _H, WIDTH)
        return heads

    def weights(self) -> dict[str, Float32Array]:
        """Return the weights as the engines take them."""
        state = {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}
        found = {
            "lstm_weight": np.concatenate((state["lstm.weight_ih_l0"], state["lstm.weight_hh_l0"]), axis=1),
            "lstm_bias": state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"],
        }
        for layer in LAYERS[1:]:
            found |= {f"{layer}_{part}": state[f"{layer}.{part}"] for part in ("weight", "bias")}
        return found


def net_of(weights: Mapping[str, Float32Array], dropout: float = 0.0) -> Net:
    """Return a torch network with these weights."""
    hidden = weights["lstm_bias"].size // 4
    net = Net(hidden, (weights["first_bias"].size, weights["second_bias"].size), dropout)
    state = {
        "lstm.weight_ih_l0": weights["lstm_weight"][:, :TOKEN_WIDTH],
        "lstm.weight_hh_l0": weights["lstm_weight"][:, TOKEN_WIDTH:],
        "lstm.bias_ih_l0": weights["lstm_bias"],
        "lstm.bias_hh_l0": np.zeros_like(weights["lstm_bias"]),
    }
    for layer in LAYERS[1:]:
        state |= {f"{layer}.{part}": weights[f"{layer}_{part}"] for part in ("weight", "bias")}
    net.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return net


def train(
    data: Path, folder: Path, *, version: int | None = None, recipe: Recipe | None = None, progress: Progress = say
) -> list[Manifest]:
    """Train on the tracks in ``data`` and write artefacts into ``folder``, by default as its next version.

    Written are the network that is served, the plain forecasts alone, the float weights (for ``evaluate`` and
    ``update``), and a network of each fold, which has never seen the individuals that its manifest names.
    """
    chosen = recipe or Recipe()
    found = read(data)
    number = version if version is not None else max([0, *versions(folder, "forecast")]) + 1
    known = {animal.title: known_of(animal, before_test(animal)) for animal in found.animals}
    progress(f"{len(known)} animals read")
    learned, samples = learn(found.animals, known, chosen, _prefixed(progress, "all"))
    settings = {"recipe": msgspec.to_builtins(chosen), "data_sha256": found.sha256}
    written = write(folder, number, learned, samples, trained_on(found, list(known)), settings)
    for fold, left_out in enumerate(folds(found.animals)[: chosen.n_folds], start=1):
        kept = [animal for animal in found.animals if animal.title not in left_out]
        if kept:
            learned, _ = learn(kept, known, chosen, _prefixed(progress, f"fold {fold}"))
            sets = trained_on(found, [one.title for one in kept])
            written.append(export_fold(folder, number, fold, learned, left_out, sets))
    return written


def write(
    folder: Path,
    version: int,
    learned: Learned,
    samples: Sequence[Samples],
    sets: tuple[TrainingSet, ...],
    settings: Mapping[str, Any],
) -> list[Manifest]:
    """Write the artefacts that are served, with what they reach on validation data."""
    metrics = validation_metrics(samples, learned)
    return [
        export_network(folder, version, learned, sets, metrics, settings, probe()),
        export_baselines(folder, version, learned.fitted, sets, metrics, settings),
        export_float(folder, version, learned, sets, metrics, settings),
    ]


def trained_on(found: Read, titles: Sequence[str]) -> tuple[TrainingSet, ...]:
    """Return the data sets behind a training, with the individuals and the anchors of each."""
    sets = []
    for file, dataset in found.datasets.items():
        animals = [one for one in found.animals if one.dataset == file and one.title in titles]
        if animals:
            sets.append(
                TrainingSet(
                    dataset=file,
                    individuals=tuple(one.individual for one in animals),
                    rows=sum(int((one.split == 0).any(axis=1).sum()) for one in animals),
                    licence=dataset.licence,
                    citation=dataset.citation,
                )
            )
    return tuple(sets)


def learn(
    animals: Sequence[Animal], known: Mapping[str, Known], recipe: Recipe, progress: Progress
) -> tuple[Learned, list[Samples]]:
    """Fit the plain forecasts, train the network, and measure both on validation data; returns the samples too."""
    baselines = tuple(fit_baselines(animals, group) for group in ALL_GROUPS)
    samples = [samples_of(animal, baselines, known=known[animal.title], rows=before_test(animal)) for animal in animals]
    progress("plain forecasts fitted")
    is_trained = np.concatenate([(one.split == 0).any(axis=1) for one in samples])
    if not bool(is_trained.any()):
        raise Invalid("no animal has a fix to train on: the tracks are too short or their gaps too long")
    growth = _growth(samples)
    context = np.concatenate([one.anchors.context for one in samples])[is_trained]
    scaling = Scaling(mean=context.mean(axis=0), deviation=context.std(axis=0) + np.float32(1e-3))
    torch.manual_seed(recipe.seed)
    net = Net(recipe.hidden, recipe.dense, recipe.dropout)
    net = train_net(net, samples, scaling, growth, recipe, progress)
    return measured(samples, baselines, growth, net.weights(), scaling), samples


def measured(
    samples: Sequence[Samples],
    baselines: tuple[Baselines, ...],
    growth: FloatArray,
    weights: dict[str, Float32Array],
    scaling: Scaling,
) -> Learned:
    """Return everything that validation data decides: spreads of circles, distances of truths, who is served."""
    g, b = len(ALL_GROUPS), len(NAMES)
    fitted = Fitted(
        growth=growth,
        baselines=baselines,
        spread=np.stack([_spreads(samples, baselines, growth, group) for group in ALL_GROUPS]),
        levels=np.broadcast_to(levels_of_t(), (g, 1 + b, _H, N_LEVELS)).copy(),
        share=np.ones((g, _H)),
        served=np.zeros((g, _H), dtype=np.int64),
        served_plain=np.ones((g, _H), dtype=np.int64),
    )
    network = Network(engine=NumpyEngine(weights), scaling=scaling, version=0)
    validated = [one.of_part(1) for one in samples]
    said = [Forecaster(one.animal.species, fitted, network).by_speaker(one.anchors) for one in validated]
    for number, group in enumerate(ALL_GROUPS):
        of_group = [i for i, one in enumerate(validated) if _is_of(one.animal, group)]
        for h in range(_H):
            members = _enough(of_group, validated, h)
            if not members:
                # No fix came after so long: nothing was learned of this horizon, and nothing is claimed of it.
                fitted.served[number, h] = fitted.served_plain[number, h] = SPEAKERS.index("persistence")
                continue
            own = [_validated(validated[i], said[i], h) for i in members]
            plain, share = STRANGER if group == "other" else _best_share(own)
            fitted.served_plain[number, h], fitted.share[number, h] = plain, share
            own = [one.drawn(plain, share) for one in own]
            is_plain = group != "other" and _is_plain_better(own, plain)
            fitted.served[number, h] = plain if is_plain else SPEAKERS.index(NETWORK)
            for speaker in range(1 + b):
                fitted.levels[number, speaker, h] = levels(np.concatenate([one.distance(speaker) for one in own]))
    return Learned(fitted, weights, scaling)


class _Validated(NamedTuple):
    """One animal's validation part at one horizon, speakers first: places less truths (1 + B, k, 2), shapes, day."""

    away_m: FloatArray
    spread_m: FloatArray
    correlation: FloatArray
    day: IntArray

    @property
    def error_m(self) -> FloatArray:
        """The error of each speaker; shape (1 + B, k)."""
        return np.asarray(np.hypot(self.away_m[..., 0], self.away_m[..., 1]))

    def drawn(self, plain: int, share: float) -> _Validated:
        """Return the same with the network drawn to a plain forecast."""
        away = self.away_m.copy()
        away[0] = share * away[0] + (1 - share) * away[plain]
        return self._replace(away_m=away)

    def distance(self, speaker: int) -> FloatArray:
        """Return how far the truths lie out, in units of the speaker's ellipse; shape (k,)."""
        here = Distribution(
            place_m=self.away_m[speaker][None],
            spread_m=self.spread_m[speaker][None],
            correlation=self.correlation[speaker][None],
        )
        found: FloatArray = here.distance(np.zeros_like(here.place_m))[0]
        return found


def _validated(one: Samples, said: Mapping[str, Distribution], h: int) -> _Validated:
    is_in = one.split[:, h] == 1
    return _Validated(
        np.stack([said[name].place_m[is_in, h] - one.target_m[is_in, h] for name in SPEAKERS]),
        np.stack([said[name].spread_m[is_in, h] for name in SPEAKERS]),
        np.stack([said[name].correlation[is_in, h] for name in SPEAKERS]),
        (one.anchors.times_s[is_in] // _DAY_S).astype(np.int64),
    )


def _enough(of_group: list[int], samples: Sequence[Samples], h: int) -> list[int]:
    """The group's animals; all where the group has too few validation truths; none where there is no truth at all."""
    counts = [int((one.split[:, h] == 1).sum()) for one in samples]
    if sum(counts[i] for i in of_group) >= _FEWEST:
        return of_group
    return list(range(len(samples))) if sum(counts) else []


def _best_share(own: Sequence[_Validated]) -> tuple[int, float]:
    """The plain forecast with the least mean error, and the share of the network beside it that errs least."""
    plain = 1 + int(np.concatenate([one.error_m[1:] for one in own], axis=1).mean(axis=1).argmin())
    errors = [np.concatenate([one.drawn(plain, share).error_m[0] for one in own]).mean() for share in SHARES_OF_NETWORK]
    return plain, SHARES_OF_NETWORK[int(np.argmin(errors))]


def _is_plain_better(own: Sequence[_Validated], plain: int) -> bool:
    """Whether a plain forecast is better than the network by more than the standard error of the difference.

    The error is taken over animal-days, whose hours are not independent.
    """
    days = []
    for one in own:
        difference = one.error_m[0] - one.error_m[plain]
        _, number = np.unique(one.day, return_inverse=True)
        if difference.size:
            days.append(np.bincount(number, difference) / np.bincount(number))
    by_day = np.concatenate(days)
    error = float(by_day.std(ddof=1) / math.sqrt(by_day.size)) if by_day.size > 1 else math.inf
    return float(by_day.mean()) > error


def fit_baselines(animals: Sequence[Animal], group: str) -> Baselines:
    """Fit the plain forecasts of a group on training data, the ridge penalty chosen on validation data.

    The group of other animals, and one that has none, is fitted on all.
    """
    of_group = [animal for animal in animals if _is_of(animal, group) and group != "other"] or list(animals)
    lags = np.concatenate([lags_of(one.times_s, one.lon_deg, one.lat_deg, one.at) for one in of_group])
    target = np.concatenate([one.target_m for one in of_group])
    split = np.concatenate([one.split for one in of_group])
    states = [np.full((one.at.size, 3), np.nan) if one.states is None else one.states[one.at] for one in of_group]
    # Of the next anchor, which is an hour later where the step to it counts at all.
    following = np.concatenate([np.vstack((of_one[1:], np.full((1, 3), np.nan))) for of_one in states])
    before = np.concatenate(states)
    trained = np.where((split == 0)[..., None], target, np.nan)
    weights = np.ones(lags.shape[0])
    error = np.full((len(PENALTIES), _H), np.inf)
    for p, penalty in enumerate(PENALTIES):
        tried = fit(lags, trained, before, following, weights, np.full(_H, penalty))
        away = np.hypot(*np.moveaxis(tried.ridge_m(lags) - target, -1, 0))
        for h in range(_H):
            if bool((split[:, h] == 1).any()):
                error[p, h] = away[split[:, h] == 1, h].mean()
    # Where nothing decides, the strongest penalty.
    best = np.where(np.isfinite(error).any(axis=0), error.argmin(axis=0), len(PENALTIES) - 1)
    return fit(lags, trained, before, following, weights, np.array(PENALTIES)[best])


def train_net(
    net: Net, samples: Sequence[Samples], scaling: Scaling, growth: FloatArray, recipe: Recipe, progress: Progress
) -> Net:
    """Train the network on the training parts; returns the running mean of its weights."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    batches = _Tensors(samples, scaling, growth)
    steps = recipe.epochs * math.ceil(batches.rows.size / recipe.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, pct_start=0.15)
    kept = {name: value.detach().clone() for name, value in net.state_dict().items()}
    share = min(recipe.mean_of, 1 - 1 / max(2.0, steps / 5))
    for epoch in range(1, recipe.epochs + 1):
        net.train()
        total, n = 0.0, 0
        order = rng.permutation(batches.rows)
        for begin in range(0, order.size, recipe.batch):
            loss = batches.loss(net, order[begin : begin + recipe.batch], recipe)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            for name, value in net.state_dict().items():
                kept[name].lerp_(value, 1 - share)
            total, n = total + float(loss.detach()), n + 1
        progress(f"epoch {epoch} of {recipe.epochs}, loss {total / n:.4f}")
    net.load_state_dict(kept)
    return net.eval()


class _Tensors:
    """The training parts as tensors, and the loss of some of their rows."""

    def __init__(self, samples: Sequence[Samples], scaling: Scaling, growth: FloatArray) -> None:
        unit = np.concatenate([units_m(one.anchors.scale_m, growth) for one in samples])
        target = np.concatenate([one.target_m for one in samples])
        vectors = np.concatenate([one.anchors.vectors for one in samples])
        weights = np.concatenate(_sample_weights(samples, growth))
        self.rows = np.flatnonzero((weights > 0).any(axis=1))
        self._tokens = torch.tensor(np.concatenate([one.anchors.tokens for one in samples]))
        self._context = torch.tensor(scaling.scaled(np.concatenate([one.anchors.context for one in samples])))
        self._vectors = torch.tensor(cut(vectors, unit).astype(np.float32))
        self._target = torch.tensor(np.nan_to_num(target / unit[..., None]).astype(np.float32))
        self._weight = torch.tensor(weights.astype(np.float32))
        sign = np.ones(N_CONTEXT, dtype=np.float32)
        sign[context_slice("vectors")][1::2] = -1
        # A mirrored number is scaled like the number itself: (-x - mean) / deviation.
        self._sign = torch.tensor(sign)
        self._shift = torch.tensor(np.where(sign < 0, -2 * scaling.mean / scaling.deviation, 0).astype(np.float32))
        self._nothing = torch.tensor((-scaling.mean / scaling.deviation).astype(np.float32))

    def loss(self, net: Net, rows: IntArray, recipe: Recipe) -> Tensor:
        tokens, context = self._tokens[rows], self._context[rows]
        vectors, target, weight = self._vectors[rows], self._target[rows], self._weight[rows]
        mirrored = torch.rand(len(rows)) < 0.5
        side = torch.where(mirrored, -1.0, 1.0)
        tokens = tokens.clone()
        tokens[..., 1] *= side[:, None]
        context = torch.where(mirrored[:, None], context * self._sign + self._shift, context)
        vectors = torch.stack((vectors[..., 0], vectors[..., 1] * side[:, None, None]), dim=-1)
        target = torch.stack((target[..., 0], target[..., 1] * side[:, None]), dim=-1)
        self._hide(context, torch.rand(len(rows)) < recipe.hide_group, "group")
        stateless = torch.rand(len(rows)) < recipe.hide_state
        self._hide(context, stateless, "state known")
        self._hide(context, stateless, "state")
        tokens[stateless, :, 4:] = 0.0
        heads = net(tokens, context)
        place = _places(heads, vectors)
        away = torch.sqrt(((place - target) ** 2).sum(dim=-1) + 1e-4)
        is_there = (weight > 0).float()
        likelihood = (is_there * _unlikelihood(heads, target - place.detach())).sum() / is_there.sum()
        quiet = (heads[..., : N_VECTORS + 2] ** 2).sum(dim=-1).mean()
        error = (weight * away).sum() / is_there.sum()
        total: Tensor = error + recipe.likelihood * likelihood + recipe.quiet * quiet
        return total

    def _hide(self, context: Tensor, rows: Tensor, part: str) -> None:
        where = context_slice(part)
        context[:, where] = torch.where(rows[:, None], self._nothing[where], context[:, where])


def _places(heads: Tensor, vectors: Tensor) -> Tensor:
    ridge = torch.zeros(N_VECTORS)
    ridge[-1] = 1.0
    weights = heads[..., :N_VECTORS] + ridge
    free: Tensor = heads[..., N_VECTORS : N_VECTORS + 2]
    drawn: Tensor = (weights[..., None] * vectors).sum(dim=2)
    return drawn + free


def _unlikelihood(heads: Tensor, away: Tensor) -> Tensor:
    """Minus the log density of the t distribution at ``away`` (n, H, 2), in units."""
    log_spread = heads[..., N_VECTORS + 2 : N_VECTORS + 4].clamp(-4.0, 4.0)
    correlation = torch.tanh(heads[..., N_VECTORS + 4]) * 0.95
    x, y = (away * torch.exp(-log_spread)).unbind(dim=-1)
    left = 1 - correlation**2
    square = (x**2 - 2 * correlation * x * y + y**2) / left
    tail = 0.5 * (FREEDOM + 2) * torch.log1p(square / FREEDOM)
    size: Tensor = log_spread.sum(dim=-1) + 0.5 * torch.log(left)
    return size + tail


def _sample_weights(samples: Sequence[Samples], growth: FloatArray) -> list[FloatArray]:
    """The weight of each training row and horizon (m, H) of each animal, zero outside its training part.

    A data set counts by the 0.7th power of its rows, and its errors as shares of how far its animals go.
    """
    weights = [np.zeros((len(one.anchors), _H)) for one in samples]
    for dataset in dict.fromkeys(one.animal.dataset for one in samples):
        of_set = [i for i, one in enumerate(samples) if one.animal.dataset == dataset]
        for h in range(_H):
            rows = {i: samples[i].split[:, h] == 0 for i in of_set}
            n = sum(int(is_in.sum()) for is_in in rows.values())
            if n == 0:
                continue
            gone = np.concatenate([np.hypot(*samples[i].target_m[rows[i], h].T) for i in of_set])
            for i in of_set:
                unit = units_m(samples[i].anchors.scale_m, growth)[rows[i], h]
                weights[i][rows[i], h] = unit / max(float(gone.mean()), 1.0) * n**-0.3
    used = np.concatenate([one[one > 0] for one in weights])
    return [one / used.mean() for one in weights]


def _growth(samples: Sequence[Samples]) -> FloatArray:
    """The mean distance gone at each horizon, in scales, over all training parts."""
    found = np.ones(_H)
    for h in range(_H):
        gone = [
            np.hypot(*one.target_m[one.split[:, h] == 0, h].T) / one.anchors.scale_m[one.split[:, h] == 0]
            for one in samples
        ]
        every = np.concatenate(gone)
        found[h] = max(float(every.mean()), 0.1) if every.size else float(HORIZONS_H[h])
    return found


def _spreads(samples: Sequence[Samples], baselines: Sequence[Baselines], growth: FloatArray, group: str) -> FloatArray:
    """The spread of each plain forecast's circle in units (B, H), on a group's training data."""
    of_group = [one for one in samples if _is_of(one.animal, group)] or list(samples)
    found = np.ones((len(NAMES), _H))
    away: list[list[list[FloatArray]]] = [[[] for _ in range(_H)] for _ in NAMES]
    for one in of_group:
        fitted = baselines[ALL_GROUPS.index(one.animal.group or "other")]
        places = fitted.all_m(one.anchors.lags_m, one.anchors.states)
        unit = units_m(one.anchors.scale_m, growth)
        for b in range(len(NAMES)):
            error = np.hypot(*np.moveaxis(one.anchors.to_frame(places[b]) - one.target_m, -1, 0)) / unit
            for h in range(_H):
                away[b][h].append(error[one.split[:, h] == 0, h])
    for b in range(len(NAMES)):
        for h in range(_H):
            found[b, h] = spread_of(np.concatenate(away[b][h]))
    return found


def _is_of(animal: Animal, group: str) -> bool:
    return (animal.group or "other") == group


def validation_metrics(samples: Sequence[Samples], learned: Learned) -> dict[str, float]:
    """Return the mean error in metres of each model by group and horizon, on validation data."""
    network = Network(engine=NumpyEngine(learned.weights), scaling=learned.scaling, version=0)
    validated = [one.of_part(1) for one in samples]
    said = [Forecaster(one.animal.species, learned.fitted, network).by_speaker(one.anchors) for one in validated]
    found: dict[str, float] = {}
    for group in ALL_GROUPS:
        of_group = [i for i, one in enumerate(validated) if _is_of(one.animal, group)]
        for h, hours in enumerate(HORIZONS_H):
            own = [_validated(validated[i], said[i], h).error_m for i in of_group]
            if sum(one.shape[1] for one in own) >= _FEWEST:
                mean = np.concatenate(own, axis=1).mean(axis=1).tolist()
                found |= {
                    f"validation_mean_error_m/{group}/{hours}h/{name}": error
                    for name, error in zip(SPEAKERS, mean, strict=True)
                }
    return found


def probe() -> tuple[Float32Array, Float32Array]:
    """Return made-up tokens and contexts of the stored question: no number of it is an animal's."""
    rng = np.random.default_rng(7)
    tokens = rng.normal(0.0, 0.7, (4, N_TOKENS, TOKEN_WIDTH)).astype(np.float32)
    context = np.clip(rng.normal(0.0, 1.0, (4, N_CONTEXT)), -5, 5).astype(np.float32)
    return tokens, context
