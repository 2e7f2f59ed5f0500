include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS quire EXPORT quire_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/quire DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT quire_targets NAMESPACE quire:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/quire-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/quire-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/quire-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/quire-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/quire-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
