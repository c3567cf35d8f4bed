# The library: every room of host/ but the program, and the kernels for CUDA where they are built.
find_package(Threads REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(fmt REQUIRED)
find_package(dlpack REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(hwy REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(libzip REQUIRED IMPORTED_TARGET libzip)

file(GLOB SEQVAE_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/host/*/*.cpp)
list(FILTER SEQVAE_SOURCES EXCLUDE REGEX "/host/app/|/without_cuda.cpp$")
add_library(seqvae ${SEQVAE_SOURCES})
add_library(seqvae::seqvae ALIAS seqvae)
# Files are compiled in groups, but for the loops, which take long each and of which Highway compiles
# most again for each instruction set, and the one that a program with kernels of its own leaves in
# the archive.
file(GLOB SEQVAE_ALONE CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/host/cpu/*.cpp)
list(APPEND SEQVAE_ALONE ${PROJECT_SOURCE_DIR}/host/kernels/without_cuda.cpp)
set_source_files_properties(${SEQVAE_ALONE} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
set_target_properties(seqvae PROPERTIES UNITY_BUILD ${SEQVAE_UNITY})
target_compile_features(seqvae PUBLIC cxx_std_20)
target_include_directories(seqvae PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(seqvae PRIVATE $<BUILD_INTERFACE:seqvae_settings>
                      $<BUILD_INTERFACE:Eigen3::Eigen> $<BUILD_INTERFACE:dlpack::dlpack>
                      PkgConfig::libzip PkgConfig::hwy
                      PUBLIC nlohmann_json::nlohmann_json fmt::fmt Threads::Threads)
