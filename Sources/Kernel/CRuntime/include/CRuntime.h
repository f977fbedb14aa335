// The runtime has no C interface: the compiler knows the names.
