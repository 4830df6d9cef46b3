defmodule Pythonx.TableTest do
  use Pythonx.Case, async: false
  doctest Pythonx.Table
end
