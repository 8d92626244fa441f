"""The demo model at 256×256, from the one at 128×128, on a CPU: ``python -m training.larger STAGE``.

The denoiser's latents come from an autoencoder for 128×128, with 24 numbers of a picture for each of theirs; drawn
people have edges that those numbers imply, so a new decoder can draw them sharply at 256×256, in a shape that a CPU
runs in a third of the time. A new encoder gives the same latents from the larger picture, and a new face locator the
same feature from the larger mask. What hears is taught to do with less sound to come, and a copy of the Backbone to
be done after one step without guidance (:mod:`training.larger.student`).

``draw`` makes pictures and their latents, ``decoder``, ``encoder``, ``locator``, ``hearing``, ``pool`` and ``student``
train; each goes on where it stopped. ``keep`` writes what they have come to into ``kept.npz``, from which they start
where there is no checkpoint; ``bundle`` makes the packaged model of it.
"""
