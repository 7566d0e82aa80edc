# What the local box says of itself; Vagrant reads it before the Vagrantfile of the project.
Vagrant.configure("2") do |config|
  config.ssh.private_key_path = File.join(__dir__, "key")
  config.ssh.insert_key = false

  config.vm.provider :libvirt do |libvirt|
    # No boot loader: the kernel is started directly.
    libvirt.kernel = File.join(__dir__, "vmlinuz")
    libvirt.initrd = File.join(__dir__, "initrd")
    libvirt.cmd_line = "@KERNEL_OPTIONS@"

    # It needs nothing from outside: this network leads to the machine that Vagrant runs on, and ends there.
    libvirt.management_network_name = "netagent-management"
    libvirt.management_network_address = "169.254.77.0/24"
    libvirt.management_network_mode = "none"
    libvirt.management_network_mtu = 9000
  end
end
