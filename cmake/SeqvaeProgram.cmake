# The program: host/app over the library.
find_package(CLI11 REQUIRED)
file(GLOB SEQVAE_PROGRAM_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/host/app/*.cpp)
add_executable(seqvae_program ${SEQVAE_PROGRAM_SOURCES})
set_target_properties(seqvae_program PROPERTIES OUTPUT_NAME seqvae)
target_compile_definitions(seqvae_program PRIVATE SEQVAE_VERSION="${PROJECT_VERSION}")
target_link_libraries(seqvae_program PRIVATE seqvae seqvae_settings CLI11::CLI11)
install(TARGETS seqvae_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
