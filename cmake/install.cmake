# cmake --install: program, its manual pages and completions, libraries, headers, ferrum.pc, CMake package; for the server a systemd unit,
# its user, and a dashboard.
install(TARGETS ferrum_static ferrum_shared EXPORT ferrum-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS ferrum RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${PROJECT_BINARY_DIR}/pages/man/ DESTINATION ${CMAKE_INSTALL_MANDIR})
install(DIRECTORY ${PROJECT_BINARY_DIR}/pages/share/ DESTINATION ${CMAKE_INSTALL_DATADIR})
set(FERRUM_BINARY ${CMAKE_INSTALL_FULL_BINDIR}/ferrum)
configure_file(contrib/ferrum.service.in ferrum.service @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/ferrum.service DESTINATION lib/systemd/system)
install(FILES contrib/ferrum.sysusers DESTINATION lib/sysusers.d RENAME ferrum.conf)
install(FILES contrib/grafana.json DESTINATION ${CMAKE_INSTALL_DATADIR}/ferrum)
install(DIRECTORY include/ferrum DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
  OUTPUT_VARIABLE FERRUM_PC_PREFIX)
list(JOIN FERRUM_METAL_LIBRARIES " " FERRUM_PC_FRAMEWORKS)
configure_file(cmake/ferrum.pc.in ferrum.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/ferrum.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_package_config_file(cmake/ferrum-config.cmake.in ferrum-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ferrum)
write_basic_package_version_file(ferrum-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/ferrum-config.cmake ${PROJECT_BINARY_DIR}/ferrum-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ferrum)
install(EXPORT ferrum-targets NAMESPACE ferrum:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ferrum)
