# The run of the tests that break runs off (kill.sh, faults.sh), which source this after functions.sh: a tiny Stable
# Diffusion 3 with random weights, four updates, evaluations and checkpoints between them.
#   vggflow   the program;  out   a scratch folder;  shim   the library to preload

make_short_run() {
  export OMP_NUM_THREADS=1
  shim=$out/fault_shim.so
  "${CXX:-c++}" -std=c++20 -O1 -shared -fPIC -o "$shim" tests/fault_shim.cpp -ldl || die "cannot build tests/fault_shim.cpp"
  printf 'a photo of a cat\nit is 42 dogs\n' >"$out/train.txt"
  printf 'a dog\nna\n' >"$out/eval.txt"
  settings=(model=tests/data/sd3_tiny precision=fp32 sd3.t5_tokens=20 sd3.height=16 sd3.width=16 "prompts.train=$out/train.txt"
    "prompts.eval=$out/eval.txt" reward=colorfulness value.kind=none updates=4 batch=2 time_grid.steps=2 vgg.bins=1 eval_every=2
    checkpoint_every=1 grid_images=4 eval.prompts=2 eval.images=2 lora_rank=2 threads=1 seed=3)
  "$vggflow" align "run=$out/whole" "${settings[@]}" >"$out/whole.log" 2>&1 || die "the run itself fails: $(tail -3 "$out/whole.log")"
}

# align FOLDER [NAME=VALUE of the environment ...]: begins the run there, or goes on with what is left of it.
align() {
  local run=$1 resume=false
  shift
  [ -e "$run/config.yaml" ] && resume=true
  env "$@" "$vggflow" align "run=$run" "resume=$resume" "${settings[@]}" >"$out/log" 2>&1
}

# same FOLDER: the run there ended as the undisturbed one did.
same() {
  python3 tests/same_run.py "$out/whole" "$1" || die "$2: the run is not the one that was not disturbed"
}
