"""From a checkpoint to ONNX: conversion, quantisation, parity."""
