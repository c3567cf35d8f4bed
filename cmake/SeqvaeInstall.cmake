# The installed package: library, headers, seqvaeConfig.cmake for find_package and seqvae.pc for
# pkg-config. Component `library`: all of it but the program.
include(CMakePackageConfigHelpers)
set(SEQVAE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/seqvae)
set_target_properties(seqvae PROPERTIES VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
install(TARGETS seqvae EXPORT seqvaeTargets COMPONENT library)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/seqvae DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT library)
install(EXPORT seqvaeTargets NAMESPACE seqvae:: DESTINATION ${SEQVAE_PACKAGE_DIR}
        COMPONENT library)

set(BUILD_SHARED_LIBS ${BUILD_SHARED_LIBS})
if(NOT BUILD_SHARED_LIBS)
  set(BUILD_SHARED_LIBS OFF)
  set(SEQVAE_PC_STATIC " libhwy libzip")
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/seqvaeConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/seqvaeConfig.cmake
                              INSTALL_DESTINATION ${SEQVAE_PACKAGE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/seqvaeConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH SEQVAE_PREFIX_FROM_PC /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${PROJECT_SOURCE_DIR}/cmake/seqvae.pc.in ${PROJECT_BINARY_DIR}/seqvae.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/seqvaeConfig.cmake
        ${PROJECT_BINARY_DIR}/seqvaeConfigVersion.cmake DESTINATION ${SEQVAE_PACKAGE_DIR}
        COMPONENT library)
install(FILES ${PROJECT_BINARY_DIR}/seqvae.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT library)
