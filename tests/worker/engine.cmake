# Tests of what needs LibTorch and MPI.

file(GLOB FR_ENGINE_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/engine/*.cpp)
fr_test(engine_tests SOURCES ${FR_ENGINE_TESTS} LINK fr_engine fr_emulated_gpu_kernels NO_DISCOVERY)
# An executable is compiled with -fpie, and could not share the library's precompiled header.
set_target_properties(engine_tests PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(engine_tests PRIVATE -fPIC)
target_precompile_headers(engine_tests REUSE_FROM fr_engine)
target_compile_definitions(engine_tests PRIVATE FR_PYTHON="${FR_PYTHON}"
                                                FR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")

# What the tests of networks against other implementations drive.
fr_engine_executable(network_trace SOURCES ${CMAKE_CURRENT_LIST_DIR}/backbones/network_trace.cpp)

# The same tests at one rank and at several: each compares with what one rank computes alone.
foreach(ranks 1 2 3 4)
  # Comparisons with other implementations are of one rank alone.
  set(only)
  if(ranks GREATER 1)
    set(only --gtest_filter=-ReferenceTest.*)
  endif()
  add_test(NAME engine.ranks_${ranks}
           COMMAND mpirun --oversubscribe --bind-to none -np ${ranks} $<TARGET_FILE:engine_tests>
                   ${only})
  set_tests_properties(
    engine.ranks_${ranks}
    PROPERTIES TIMEOUT 900 PROCESSORS ${ranks} ENVIRONMENT
               "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
endforeach()

# What a GPU's tensors go through, on a GPU that the processor plays.
file(GLOB FR_ENGINE_GPU_TESTS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/engine_gpu/*.cpp)
fr_test(engine_gpu_tests SOURCES ${FR_ENGINE_GPU_TESTS} ${CMAKE_CURRENT_LIST_DIR}/engine/main.cpp
        LINK fr_engine fr_emulated_gpu_kernels NO_DISCOVERY)
set_target_properties(engine_gpu_tests PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(engine_gpu_tests PRIVATE -fPIC)
target_precompile_headers(engine_gpu_tests REUSE_FROM fr_engine)
foreach(ranks 1 2 3 4)
  add_test(NAME engine_gpu.ranks_${ranks}
           COMMAND mpirun --oversubscribe --bind-to none -np ${ranks}
                   $<TARGET_FILE:engine_gpu_tests>)
  set_tests_properties(
    engine_gpu.ranks_${ranks}
    PROPERTIES TIMEOUT 300 PROCESSORS ${ranks} ENVIRONMENT
               "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
endforeach()

# The tests of what has code of its own for GPUs, on an emulated one: with one rank, and with ranks
# whose shards are small and uneven. Of the trainer's the quickest: it is there for graphs, uploads
# and checkpoints together.
set(FR_EMULATED_TESTS_1
    "*Head*:*Optimizer*:*Triplet*:*Backbone*:*NonFinite*:TrainerTest.TripletsAreLearnt-TrainerTest.A*")
set(FR_EMULATED_TESTS_3 "*Head*:*NonFiniteRanks*:*BatchNorm*-TrainerTest*")
foreach(ranks 1 3)
  add_test(NAME engine.emulated_gpu_ranks_${ranks}
           COMMAND mpirun --oversubscribe --bind-to none -np ${ranks} $<TARGET_FILE:engine_tests>
                   --gtest_filter=${FR_EMULATED_TESTS_${ranks}})
  set_tests_properties(
    engine.emulated_gpu_ranks_${ranks}
    PROPERTIES
      TIMEOUT 900 PROCESSORS ${ranks}
      ENVIRONMENT
      "FR_TEST_DEVICE=emulated_gpu;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1"
  )
endforeach()

# A benchmark that nobody starts stops working unseen.
if(NOT FR_SANITIZE)
  add_test(NAME bench.head_runs COMMAND bench_head --identities 3000 --batch 16 --dim 64 --steps 1)
  set_tests_properties(
    bench.head_runs PROPERTIES TIMEOUT 300 PASS_REGULAR_EXPRESSION "sampled +[0-9.]+ s"
                               FAIL_REGULAR_EXPRESSION "did not end")
  # What measures GPUs, on the emulation of one.
  add_test(NAME bench.head_gpu_runs
           COMMAND bench_head --device emulated_gpu --identities 300 --batch 16 --dim 64 --steps 1
                   --peak-size 64 --json ${CMAKE_BINARY_DIR}/head_gpu.json)
  set_tests_properties(
    bench.head_gpu_runs
    PROPERTIES TIMEOUT 300
               PASS_REGULAR_EXPRESSION "sampled +[0-9.]+ ms"
               FAIL_REGULAR_EXPRESSION "failed|does not fit"
               ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
  add_test(NAME bench.train_gpu_runs
           COMMAND bench_train --device emulated_gpu --network mbf --identities 300 --batch 2 --steps 1
                   --peak-size 64 --only reference-bf16,bf16)
  set_tests_properties(
    bench.train_gpu_runs
    PROPERTIES TIMEOUT 300
               PASS_REGULAR_EXPRESSION " bf16 +[0-9.]+ ms"
               FAIL_REGULAR_EXPRESSION "failed|did not end"
               ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
  add_test(NAME bench.backbone_runs COMMAND bench_backbone --network mbf --batch 2 --seconds 0.01)
  set_tests_properties(bench.backbone_runs PROPERTIES TIMEOUT 300 PASS_REGULAR_EXPRESSION
                                                      "mbf +training +2 ")
  add_test(NAME bench.optimizers_runs COMMAND bench_optimizers --network mbf --steps 1)
  set_tests_properties(bench.optimizers_runs PROPERTIES TIMEOUT 300 PASS_REGULAR_EXPRESSION
                                                        "moving average +[0-9.]+ ms")
  add_test(NAME bench.train_runs COMMAND bench_train --network mbf --identities 2000 --batch 2
                                         --steps 1)
  set_tests_properties(
    bench.train_runs
    PROPERTIES TIMEOUT 300
               PASS_REGULAR_EXPRESSION "2000 +2 +bf16 +[0-9.]+ s"
               FAIL_REGULAR_EXPRESSION "did not end"
               ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  add_test(NAME bench.collectives_runs
           COMMAND mpirun --oversubscribe --bind-to none -np 2 $<TARGET_FILE:bench_collectives>
                   --max-kib 4 --repeats 1 --json ${CMAKE_BINARY_DIR}/collectives.json)
  add_test(NAME bench.overlap_runs
           COMMAND mpirun --oversubscribe --bind-to none -np 2 $<TARGET_FILE:bench_overlap>
                   --network mbf --batch 1 --steps 1)
  set_tests_properties(bench.collectives_runs PROPERTIES PASS_REGULAR_EXPRESSION "broadcast +[0-9.]+")
  set_tests_properties(bench.overlap_runs PROPERTIES PASS_REGULAR_EXPRESSION "overlap, bf16 +[0-9.]+ s")
  set_tests_properties(
    bench.collectives_runs bench.overlap_runs
    PROPERTIES TIMEOUT 300 ENVIRONMENT
               "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
endif()

# fr-model's library parts, and fr-model itself, against PyTorch, onnxruntime and numpy.
fr_test(pretrained_tests SOURCES ${CMAKE_CURRENT_LIST_DIR}/model/pretrained_test.cpp LINK fr_engine)
set_target_properties(pretrained_tests PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(pretrained_tests PRIVATE -fPIC)
target_precompile_headers(pretrained_tests REUSE_FROM fr_engine)
add_test(NAME models COMMAND ${FR_PYTHON} -m pytest -q -p no:cacheprovider
                             ${CMAKE_CURRENT_LIST_DIR}/model)
set_tests_properties(
  models
  PROPERTIES
    TIMEOUT 1800
    ENVIRONMENT
    "FR_BIN_DIR=${CMAKE_BINARY_DIR}/bin;PYTHONPATH=${CMAKE_CURRENT_LIST_DIR}/backbones;PYTHONDONTWRITEBYTECODE=1"
)

# MTCNN against facenet-pytorch; fr-data's commands that need the engine.
fr_engine_executable(mtcnn_trace SOURCES ${CMAKE_CURRENT_LIST_DIR}/align/mtcnn_trace.cpp)
add_test(NAME align COMMAND ${FR_PYTHON} -m pytest -q -p no:cacheprovider
                            ${CMAKE_CURRENT_LIST_DIR}/align)
set_tests_properties(align PROPERTIES TIMEOUT 600 ENVIRONMENT
                                      "FR_BIN_DIR=${CMAKE_BINARY_DIR}/bin;PYTHONDONTWRITEBYTECODE=1")
add_test(NAME dedupe COMMAND ${FR_PYTHON} -m pytest -q -p no:cacheprovider
                             ${CMAKE_CURRENT_LIST_DIR}/dedupe)
set_tests_properties(
  dedupe
  PROPERTIES
    TIMEOUT 600
    ENVIRONMENT
    "FR_BIN_DIR=${CMAKE_BINARY_DIR}/bin;PYTHONPATH=${CMAKE_CURRENT_LIST_DIR}/backbones:${CMAKE_CURRENT_LIST_DIR}/model;PYTHONDONTWRITEBYTECODE=1"
)
