#!/bin/sh
# The chain sweep -> forget -> intervene -> mitigate -> re-scan on real assets:  sh reports/interventions/commands.sh DIR
# Every step resumes: what is measured is kept under DIR and not measured again.
set -e
out=${1:?give a folder for the runs}
here=$(dirname "$0")

# 1. A sentence encoder tuned on film reviews, probed on news topics.
spectra sweep "$here/minilm.yaml" --out "$out/minilm"
adapter=$(ls -d "$out"/minilm/trials/0cb09306e3b5/adapter)   # LoRA r=8, alpha=32
measure="--base all-MiniLM-L6-v2 --max-length 64"
heldout="--heldout bbc-topics --heldout bbc-topics:nearest-neighbour"
spectra forget "$adapter" $measure $heldout --limit 400 -o "$out/minilm-forget"
spectra intervene "$adapter" $measure $heldout --task movie-sentiment --limit 400 --fit-limit 200 \
    --lambdas 0,0.5,1,1.5 -o "$out/minilm-intervene"
spectra mitigate "$adapter" --choose-by movie-sentiment $heldout --limit 400 --fit-limit 200 --max-length 64 \
    -o "$out/minilm-mended"
spectra intruders "$out/minilm-mended"

# 2. A causal language model tuned on dictionary glosses; loss on news and prose.
spectra sweep "$here/smollm2.yaml" --out "$out/smollm2"
adapter=$(ls -d "$out"/smollm2/trials/ba043801080d/adapter)  # LoRA r=8, alpha=16
heldout="--heldout bbc-news:lm-loss --heldout brown:lm-loss"
measure="--base SmolLM2-135M-Instruct --max-length 128"
spectra forget "$adapter" $measure $heldout --limit 40 -o "$out/smollm2-forget"
spectra intervene "$adapter" $measure $heldout --task wordnet-glosses --limit 40 --lambdas 0,0.5,1,1.5 \
    -o "$out/smollm2-intervene"
spectra mitigate "$adapter" --choose-by wordnet-glosses $heldout --limit 40 --max-length 128 -o "$out/smollm2-mended"
spectra intruders "$out/smollm2-mended"

# 3. A tiny encoder-decoder, trained from a configuration.
python "$here/../../scripts/tiny_seq2seq.py" "$out/t5"
for adapter in "$out"/t5/tuned/trials/*/adapter; do
    heldout="--heldout $out/t5/topics.jsonl:rouge-l --max-length 16 --limit 300"
    spectra intervene "$adapter" --base "$out/t5/base" $heldout --task "$out/t5/sentiment.jsonl" \
        -o "$(dirname "$adapter")/interventions" || true   # a checkpoint without intruders is refused
done
