//go:build race

package main

// raceMemory is the factor by which the race detector increases the memory of a program.
const raceMemory = 4
