#!/usr/bin/env bash
# Builds the program for 64-bit ARM on another machine, without optimization: shows that it compiles and links there. Nothing is run.
# Takes PyPI's wheel of LibTorch and Debian's libraries of that processor into FOLDER (1.5 GB, 0.5 of them loaded), and leaves the system as it is.
# Usage: scripts/cross_aarch64.sh FOLDER [NINJA'S ARGUMENTS...]     (vggflow; needs Debian 12 with g++-aarch64-linux-gnu, pip, cmake, ninja)
set -euo pipefail
source=$(realpath "$(dirname "$0")/..")
mkdir -p "$1"
folder=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- vggflow
cd "$folder"
command -v aarch64-linux-gnu-g++ >/dev/null || { echo "cross_aarch64: there is no aarch64-linux-gnu-g++; apt-get install g++-aarch64-linux-gnu" >&2; exit 1; }

# LibTorch.
wheel=torch-2.11.0-cp311-cp311-manylinux_2_28_aarch64.whl
[ -e "$wheel" ] || python3 -m pip download --quiet --platform manylinux_2_28_aarch64 --python-version 3.11 --only-binary=:all: --no-deps torch==2.11.0
[ -d torch ] || unzip -q "$wheel" 'torch/include/*' 'torch/lib/*'

# The other libraries, by an apt that keeps everything here.
if [ ! -d sysroot ]; then
  mkdir -p apt/lists/partial apt/cache/archives/partial apt/sources debs
  touch apt/status
  cat >apt.conf <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$folder/apt";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt/cache";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "$folder/apt/sources";
END
  echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main' >apt/sources.list
  export APT_CONFIG=$folder/apt.conf
  apt-get update -qq
  (cd debs && apt-get download -qq libfmt-dev libfmt9 nlohmann-json3-dev libyaml-cpp-dev libyaml-cpp0.7 libcli11-dev libpng-dev libpng16-16 zlib1g-dev zlib1g \
    libjpeg62-turbo-dev libjpeg62-turbo libcurl4-openssl-dev libcurl4 libfreetype-dev libfreetype6 libharfbuzz-dev libharfbuzz0b libcpp-httplib-dev \
    libcpp-httplib0.11 libglib2.0-dev libglib2.0-0 libbrotli-dev libbrotli1 libssl-dev libssl3 libgraphite2-dev libgraphite2-3 libpcre2-dev libpcre2-8-0 libffi-dev)
  for deb in debs/*.deb; do dpkg -x "$deb" sysroot; done
fi

cat >aarch64.cmake <<END
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH $folder/sysroot)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} $folder/sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$folder/sysroot/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} $folder/sysroot)
END
cmake -S "$source" -B build -G Ninja -DCMAKE_TOOLCHAIN_FILE="$folder/aarch64.cmake" -DVGGFLOW_TORCH_ROOT="$folder/torch" -DVGGFLOW_BUILD_TESTS=OFF \
  -DVGGFLOW_BUILD_BENCH=OFF -DVGGFLOW_CUDA=OFF -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 >cmake.txt || { tail -20 cmake.txt >&2; exit 1; }
ninja -C build "$@"
