defmodule Pythonx.Uv.Checksums do
  # The SHA-256 sums of the uv that is downloaded by default, so that neither the network nor a host has to be trusted.
  #
  # Those of the archives are the ones that Astral publishes with the release and pins in its action astral-sh/setup-uv.
  # Those of the wheels are the ones in the index of PyPI.
  @moduledoc false

  alias Pythonx.Uv.Target

  @archives %{
    "0.8.5" => %{
      "aarch64-apple-darwin" => "467e875ac84ac2155f048b56e33741d7dee6f02369048d5b6c05b74b745411e2",
      "aarch64-pc-windows-msvc" => "8d3dda6ff64065e65b49ecd42018a885c0f20e6967af950ef121f976d73e72db",
      "aarch64-unknown-linux-gnu" => "db05450c7c1e9dd51eeaf4b59c3bc3721bd9146e7ad95e87f5736d45c4037ae0",
      "aarch64-unknown-linux-musl" => "400771c1136c9d5cf624bb1695b08d46a4e4e0fc2c9b8897e7be950ac5e00ae0",
      "arm-unknown-linux-musleabihf" => "7dcd2a34735d2871714ee4993cf0227492c860ab089691a30f6a65d48ec469b6",
      "armv7-unknown-linux-gnueabihf" => "0032fa90b0a74559ac965538178499de6b396ec7ff9b8d8134f442d2d3079f8a",
      "armv7-unknown-linux-musleabihf" => "daab0e8f9b563dcbd6bc6ac517a5f9ebe1b1dca9671011d40012c73f0cde8cd0",
      "i686-pc-windows-msvc" => "2c133809d2839eac93341a14df6fb16bf834ae3c7582f069cf24ccc60cf367f7",
      "i686-unknown-linux-gnu" => "6c6b88bf178f5bd508523457a589e09c885deb57983f8d73dfdd43794d6decfb",
      "i686-unknown-linux-musl" => "5968f60135941a2bcca742bf44854bbbe8adfba4d0a170f5991d95572c0e4d26",
      "powerpc64-unknown-linux-gnu" => "a4e7b7dca6386b8623c12581ecb606b31a9df53ca8acbbb14dec5ceaa23c1603",
      "powerpc64le-unknown-linux-gnu" => "1d521c56d8ee83b90f15350f1cebb506e2441e574b27acdbdfce8449ddbfa1c3",
      "riscv64gc-unknown-linux-gnu" => "ca7536b206090982e6f90d566bc441598a6aaad4cfc885618f12051c51a0e454",
      "s390x-unknown-linux-gnu" => "92fd077879ea943775bebf49d3515b5da8a237bcb9a975b2476183946b6ed017",
      "x86_64-apple-darwin" => "9ee5b34975ab4659345fc96cc08098d7ec871cdfa969a5774894bcaebdaf3b58",
      "x86_64-pc-windows-msvc" => "898049e2db4a92e59bf1da7e14cad9b5afadb7d0cf9dd55a5274825290f7ba6d",
      "x86_64-unknown-linux-gnu" => "9db7e7db3cf98ddb57954bfb72c9ba4b8a4514b910e666e3c57e8b4e83a0d630",
      "x86_64-unknown-linux-musl" => "64aec5c2fa8255d19ff20480afb6445e29be94628c58a429c131f5c60bd990b5"
    }
  }

  @wheels %{
    "0.8.5" => %{
      "aarch64-apple-darwin" => "43a689027696bc9c62e6da3f06900c52eafc4debbf4fba9ecb906196730b34c8",
      "aarch64-pc-windows-msvc" => "37c1a22915392014d8b4ade9e69e157c8e5ccdf32f37070a84f749a708268335",
      "aarch64-unknown-linux-gnu" => "73e772caf7310af4b21eaf8c25531b934391f1e84f3afa8e67822d7c432f6dad",
      "aarch64-unknown-linux-musl" => "a34d783f5cef00f1918357c0cd9226666e22640794e9e3862820abf4ee791141",
      "arm-unknown-linux-musleabihf" => "e236372a260e312aef5485a0e5819a0ec16c9197af06d162ad5a3e8bd62f9bba",
      "armv7-unknown-linux-gnueabihf" => "2140383bc25228281090cc34c00500d8e5822877c955f691d69bbf967e8efa73",
      "armv7-unknown-linux-musleabihf" => "7d601f021cbc179320ea3a75cd1d91bd49af03d2a630c4d04ebd38ff6b87d419",
      "i686-pc-windows-msvc" => "6362a2e1fa535af0e4c0a01f83e666a4d5f9024d808f9e64e3b6ef07c97aff54",
      "i686-unknown-linux-gnu" => "6b449779ff463b059504dc30316a634f810149e02482ce36ea35daea8f6ce7af",
      "i686-unknown-linux-musl" => "6ee97b7299990026619c20e30e253972c6c0fb6fba4f5658144e62aa1c07785a",
      "powerpc64-unknown-linux-gnu" => "a7f8739d05cc513eee2f1f8a7e6c482a9c1e8860d77cd078d1ea7c3fe36d7a65",
      "powerpc64le-unknown-linux-gnu" => "62ebbd22f780ba2585690332765caf9e29c9758e48a678148e8b1ea90580cdb9",
      "riscv64gc-unknown-linux-gnu" => "3ddd7d8c01073f23ba2a4929ab246adb30d4f8a55c5e007ad7c8341f7bf06978",
      "s390x-unknown-linux-gnu" => "4f8dd0555f05d66ff46fdab551137cc2b1ea9c5363358913e2af175e367f4398",
      "x86_64-apple-darwin" => "53a40628329e543a5c5414553f5898131d5c1c6f963708cb0afc2ecf3e8d8167",
      "x86_64-pc-windows-msvc" => "dd89836735860461c3a5563731e77c011d1831f14ada540f94bf1a7011dbea14",
      "x86_64-unknown-linux-gnu" => "38c04408ad5eae7a178a1e3b0e09afeb436d0c97075530a3c82de453b78d0448",
      "x86_64-unknown-linux-musl" => "09804055d6346febf0767767c04bdd2fab7d911535639f9c18de2ea744b2954c"
    }
  }

  @doc "The sum of the archive of a release, `nil` if we do not know it."
  @spec archive(version :: String.t(), Target.t()) :: String.t() | nil
  def archive(version, target), do: @archives[version][target]

  @doc "The sum of the wheel on PyPI, `nil` if we do not know it."
  @spec wheel(version :: String.t(), Target.t()) :: String.t() | nil
  def wheel(version, target), do: @wheels[version][target]
end
