# Enables CUDA: nvcc from CMAKE_CUDA_COMPILER, else from the Python packages that
# docker/setup/install-cuda.sh puts into .venv-cuda, else from the PATH. No GPU is needed.
if(NOT CMAKE_CUDA_COMPILER)
  file(GLOB REPRISE_NVCC ${CMAKE_SOURCE_DIR}/.venv-cuda/lib/python3*/site-packages/nvidia/cu*/bin/nvcc)
  if(REPRISE_NVCC)
    list(GET REPRISE_NVCC 0 CMAKE_CUDA_COMPILER)
  endif()
endif()
# Turing to Hopper; the machine code of sm_75 is what a T4 runs. 90a has wgmma,
# which compute_90, for later devices to compile, is without.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 86-real 89-real 90a-real 90-virtual)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)  # all that CMake 3.25 knows of nvcc
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
